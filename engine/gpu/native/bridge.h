// The C half of the driver: what the Go bindings lack or do too slowly. It replays a recorded pass in one crossing,
// maps staging buffers without callbacks into Go, and collects errors and log lines as text.
//
// The symbols come from the wgpu-native library that the Go binding links; their prototypes are declared by hand in
// bridge.c because a Go module cannot include another module's headers.
#ifndef QW_BRIDGE_H
#define QW_BRIDGE_H

#include <stddef.h>
#include <stdint.h>

enum { QW_DISPATCH = 0, QW_COPY = 1 };

// One step of a pass. Handles are integers so that Go may keep the array in its own memory.
typedef struct {
	uint32_t op;          // QW_DISPATCH or QW_COPY
	uint32_t x, y, z;     // workgroups
	uintptr_t a;          // pipeline, or source buffer
	uintptr_t b;          // bind group, or destination buffer
	uint64_t a_off, b_off; // bytes, copies only
	uint64_t size;        // bytes, copies only
} qw_step;

// What an error scope caught. message is malloc'ed and the reader frees it; 0 is no error.
typedef struct {
	uint32_t type; // WGPUErrorType
	char *message;
} qw_error;

// qw_guarded calls fn and returns 1, or 0 when the library failed fatally inside (guard_linux.c).
int qw_guarded(void (*fn)(void *), void *arg);

// The type of an error that a guard caught; WGPUErrorType ends below it.
enum { QW_FATAL = 1000 };

// qw_submit encodes the steps into one command buffer and submits it. On an error nothing was submitted.
void qw_submit(void *device, void *queue, const qw_step *steps, size_t n, int dry_run, qw_error *err);
// qw_flush submits nothing, which sends pending writes.
void qw_flush(void *queue, qw_error *err);
void qw_write(void *device, void *queue, void *buffer, uint64_t offset, const void *data, size_t size, qw_error *err);

enum { QW_MAP_READ = 1, QW_MAP_WRITE = 2 };
// qw_map starts mapping a staging buffer; *status becomes 1 + WGPUBufferMapAsyncStatus when a poll finds it done.
void qw_map(void *device, void *buffer, uint32_t mode, size_t size, int32_t *status, qw_error *err);
// qw_fill copies into a buffer mapped for writing and unmaps it; it returns 0 when there was nothing mapped.
int qw_fill(void *device, void *buffer, const void *src, size_t size, qw_error *err);
int32_t qw_status(const int32_t *status);
// qw_read copies a mapped staging buffer out and unmaps it; it returns 0 when there was nothing mapped.
int qw_read(void *device, void *buffer, void *dst, size_t size, qw_error *err);
void qw_unmap(void *device, void *buffer, qw_error *err);
// qw_poll looks for what is done, and tells whether the queue is empty. It does not wait: see device.await.
int qw_poll(void *device, qw_error *err);
void qw_nap(int64_t nanoseconds); // below a second
void qw_destroy_buffer(void *buffer);

// Scopes for memory and internal errors around calls of the Go binding, which opens only a validation scope.
void qw_scope_begin(void *device);
void qw_scope_end(void *device, qw_error *err);

// Errors that no scope catches and the loss of a device end here instead of in the library's handlers, which abort.
// The structure lives in C memory for as long as the process does.
typedef struct {
	int32_t lost;
	char text[500];
} qw_watch;

int32_t qw_watch_lost(const qw_watch *watch);
void qw_on_uncaptured(int type, const char *message, void *watch);
void qw_on_lost(int reason, const char *message, void *watch);

// qw_request_device opens an adapter with all of its limits. It returns NULL and a malloc'ed message on failure.
void *qw_request_device(void *adapter, qw_watch *watch, char **message);

// The library's log goes into a small ring instead of the terminal. qw_take_log empties it; the reader frees it.
void qw_capture_log(void);
char *qw_take_log(void);

#endif
