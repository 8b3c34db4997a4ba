//go:build !js

#include "bridge.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// Opaque handles. The WebGPU C types that cross here are one pointer each.
typedef void (*error_cb)(int type, const char *message, void *user);
typedef void (*map_cb)(int status, void *user);
typedef void (*log_cb)(int level, const char *message, void *user);

extern void wgpuDevicePushErrorScope(void *device, int filter);
extern void wgpuDevicePopErrorScope(void *device, error_cb callback, void *user);
extern void *wgpuDeviceCreateCommandEncoder(void *device, const void *desc);
extern void *wgpuCommandEncoderBeginComputePass(void *encoder, const void *desc);
extern void wgpuCommandEncoderCopyBufferToBuffer(void *encoder, void *src, uint64_t src_off, void *dst,
                                                 uint64_t dst_off, uint64_t size);
extern void *wgpuCommandEncoderFinish(void *encoder, const void *desc);
extern void wgpuCommandEncoderRelease(void *encoder);
extern void wgpuCommandBufferRelease(void *buffer);
extern void wgpuComputePassEncoderSetPipeline(void *pass, void *pipeline);
extern void wgpuComputePassEncoderSetBindGroup(void *pass, uint32_t index, void *group, size_t n, const uint32_t *offs);
extern void wgpuComputePassEncoderDispatchWorkgroups(void *pass, uint32_t x, uint32_t y, uint32_t z);
extern void wgpuComputePassEncoderEnd(void *pass);
extern void wgpuComputePassEncoderRelease(void *pass);
extern void wgpuQueueSubmit(void *queue, size_t n, void *const *buffers);
extern void wgpuQueueWriteBuffer(void *queue, void *buffer, uint64_t offset, const void *data, size_t size);
extern void wgpuBufferMapAsync(void *buffer, uint32_t mode, size_t offset, size_t size, map_cb callback, void *user);
extern const void *wgpuBufferGetConstMappedRange(void *buffer, size_t offset, size_t size);
extern void *wgpuBufferGetMappedRange(void *buffer, size_t offset, size_t size);
extern void wgpuBufferUnmap(void *buffer);
extern void wgpuBufferDestroy(void *buffer);
extern uint32_t wgpuDevicePoll(void *device, uint32_t wait, const void *index);
extern void wgpuSetLogCallback(log_cb callback, void *user);
extern void wgpuSetLogLevel(int level);

enum { FILTER_VALIDATION = 0, FILTER_MEMORY = 1 };
enum { LOG_WARN = 2 };

// The first error wins: it is the innermost cause.
static void on_error(int type, const char *message, void *user) {
	qw_error *err = user;
	if (type == 0 || err->type != 0) return;
	err->type = (uint32_t)type;
	err->message = strdup(message ? message : "");
}

static void scopes_push(void *device) {
	wgpuDevicePushErrorScope(device, FILTER_MEMORY);
	wgpuDevicePushErrorScope(device, FILTER_VALIDATION);
}

static void scopes_pop(void *device, qw_error *err) {
	for (int i = 0; i < 2; i++) wgpuDevicePopErrorScope(device, on_error, err);
}

void qw_scope_begin(void *device) {
	wgpuDevicePushErrorScope(device, FILTER_MEMORY);
}

void qw_scope_end(void *device, qw_error *err) { wgpuDevicePopErrorScope(device, on_error, err); }

static void fatal(qw_error *err, const char *where) {
	if (err->type != 0) free(err->message);
	err->type = QW_FATAL;
	err->message = strdup(where);
}

typedef struct {
	void *device, *queue;
	const qw_step *steps;
	size_t n;
	int dry_run;
	qw_error *err;
} submission;

static void *encode(void *encoder, const qw_step *steps, size_t n) {
	void *pass = NULL;
	uintptr_t pipeline = 0, group = 0;
	for (size_t i = 0; i < n; i++) {
		const qw_step *s = &steps[i];
		if (s->op == QW_COPY) {
			if (pass) {
				wgpuComputePassEncoderEnd(pass);
				wgpuComputePassEncoderRelease(pass);
				pass = NULL;
			}
			wgpuCommandEncoderCopyBufferToBuffer(encoder, (void *)s->a, s->a_off, (void *)s->b, s->b_off, s->size);
			continue;
		}
		if (!pass) {
			pass = wgpuCommandEncoderBeginComputePass(encoder, NULL);
			pipeline = group = 0;
		}
		if (s->a != pipeline) {
			wgpuComputePassEncoderSetPipeline(pass, (void *)s->a);
			pipeline = s->a;
		}
		if (s->b != group) {
			wgpuComputePassEncoderSetBindGroup(pass, 0, (void *)s->b, 0, NULL);
			group = s->b;
		}
		wgpuComputePassEncoderDispatchWorkgroups(pass, s->x, s->y, s->z);
	}
	if (pass) {
		wgpuComputePassEncoderEnd(pass);
		wgpuComputePassEncoderRelease(pass);
	}
	return wgpuCommandEncoderFinish(encoder, NULL);
}

static void submit(void *user) {
	submission *s = user;
	scopes_push(s->device);
	void *encoder = wgpuDeviceCreateCommandEncoder(s->device, NULL);
	void *commands = encode(encoder, s->steps, s->n);
	scopes_pop(s->device, s->err);
	if (s->err->type == 0 && !s->dry_run) {
		void *list[1] = {commands};
		wgpuQueueSubmit(s->queue, 1, list);
	}
	if (commands) wgpuCommandBufferRelease(commands);
	wgpuCommandEncoderRelease(encoder);
}

void qw_submit(void *device, void *queue, const qw_step *steps, size_t n, int dry_run, qw_error *err) {
	submission s = {device, queue, steps, n, dry_run, err};
	if (!qw_guarded(submit, &s)) fatal(err, "submission failed");
}

static void flush(void *user) {
	submission *s = user;
	wgpuQueueSubmit(s->queue, 0, NULL);
}

void qw_flush(void *queue, qw_error *err) {
	submission s = {NULL, queue, NULL, 0, 0, err};
	if (!qw_guarded(flush, &s)) fatal(err, "submission of pending writes failed");
}

void qw_write(void *device, void *queue, void *buffer, uint64_t offset, const void *data, size_t size, qw_error *err) {
	scopes_push(device);
	wgpuQueueWriteBuffer(queue, buffer, offset, data, size);
	scopes_pop(device, err);
}

static void on_map(int status, void *user) { __atomic_store_n((int32_t *)user, 1 + (int32_t)status, __ATOMIC_RELEASE); }

void qw_map(void *device, void *buffer, uint32_t mode, size_t size, int32_t *status, qw_error *err) {
	__atomic_store_n(status, 0, __ATOMIC_RELEASE);
	scopes_push(device);
	wgpuBufferMapAsync(buffer, mode, 0, size, on_map, status);
	scopes_pop(device, err);
}

int32_t qw_status(const int32_t *status) { return __atomic_load_n(status, __ATOMIC_ACQUIRE); }

int qw_read(void *device, void *buffer, void *dst, size_t size, qw_error *err) {
	const void *src = wgpuBufferGetConstMappedRange(buffer, 0, size);
	if (src) memcpy(dst, src, size);
	qw_unmap(device, buffer, err);
	return src != NULL;
}

int qw_fill(void *device, void *buffer, const void *src, size_t size, qw_error *err) {
	void *dst = wgpuBufferGetMappedRange(buffer, 0, size);
	if (dst) memcpy(dst, src, size);
	qw_unmap(device, buffer, err);
	return dst != NULL;
}

void qw_unmap(void *device, void *buffer, qw_error *err) {
	scopes_push(device);
	wgpuBufferUnmap(buffer);
	scopes_pop(device, err);
}

typedef struct {
	void *device;
	int empty;
} polling;

static void poll(void *user) {
	polling *p = user;
	p->empty = (int)wgpuDevicePoll(p->device, 0, NULL);
}

int qw_poll(void *device, qw_error *err) {
	polling p = {device, 0};
	if (!qw_guarded(poll, &p)) fatal(err, "waiting for the device failed");
	return p.empty;
}

void qw_nap(int64_t nanoseconds) {
	struct timespec t = {0, (long)nanoseconds};
	nanosleep(&t, NULL);
}

void qw_destroy_buffer(void *buffer) { wgpuBufferDestroy(buffer); }

int32_t qw_watch_lost(const qw_watch *watch) { return __atomic_load_n(&watch->lost, __ATOMIC_ACQUIRE); }

static void note(qw_watch *watch, const char *message) {
	if (watch->text[0] == 0 && message) strncpy(watch->text, message, sizeof watch->text - 1);
}

void qw_on_uncaptured(int type, const char *message, void *watch) {
	enum { ERROR_LOST = 5 };
	note(watch, message);
	if (type == ERROR_LOST) __atomic_store_n(&((qw_watch *)watch)->lost, 1, __ATOMIC_RELEASE);
}

// A device that its owner lets go reports a loss too; nobody looks at it any more.
void qw_on_lost(int reason, const char *message, void *watch) {
	(void)reason;
	note(watch, message);
	__atomic_store_n(&((qw_watch *)watch)->lost, 1, __ATOMIC_RELEASE);
}

#define LOG_LINES 16

static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static char *log_lines[LOG_LINES];
static int log_next;

static void on_log(int level, const char *message, void *user) {
	(void)level;
	(void)user;
	pthread_mutex_lock(&log_mutex);
	free(log_lines[log_next]);
	log_lines[log_next] = strdup(message ? message : "");
	log_next = (log_next + 1) % LOG_LINES;
	pthread_mutex_unlock(&log_mutex);
}

void qw_capture_log(void) {
	wgpuSetLogCallback(on_log, NULL);
	wgpuSetLogLevel(LOG_WARN);
}

char *qw_take_log(void) {
	pthread_mutex_lock(&log_mutex);
	size_t total = 1;
	for (int i = 0; i < LOG_LINES; i++)
		if (log_lines[i]) total += strlen(log_lines[i]) + 1;
	char *text = calloc(total, 1);
	size_t at = 0;
	for (int i = 0; i < LOG_LINES; i++) {
		int k = (log_next + i) % LOG_LINES;
		if (!log_lines[k]) continue;
		size_t len = strlen(log_lines[k]);
		if (text) {
			memcpy(text + at, log_lines[k], len);
			at += len;
			text[at++] = '\n';
		}
		free(log_lines[k]);
		log_lines[k] = NULL;
	}
	pthread_mutex_unlock(&log_mutex);
	return text;
}
