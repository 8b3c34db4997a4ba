//go:build !js

// Opening a device. The Go bindings pass uninitialised limits and no error callback, so the request is made here. The
// structures are those of the libraries' webgpu.h and wgpu.h: 0.19 to 22, or 0.17 (driver_gowebgpu.go).

#include "bridge.h"

#include <stdlib.h>
#include <string.h>

#ifdef QW_WGPU_0_17
enum { STYPE_REQUIRED_LIMITS_EXTRAS = 0x60000003, STYPE_SUPPORTED_LIMITS_EXTRAS = 0x60000003 };
enum { NUM_LIMITS_BEFORE = 13 };
#else
enum { STYPE_REQUIRED_LIMITS_EXTRAS = 0x00030002, STYPE_SUPPORTED_LIMITS_EXTRAS = 0x00030005 };
enum { NUM_LIMITS_BEFORE = 14 };
#endif

#define MAX_BUFFER_BYTES (1ull << 40)

typedef struct chain {
	struct chain *next;
	int type;
} chain;

typedef struct {
	uint32_t before[NUM_LIMITS_BEFORE];
	uint64_t max_uniform_binding, max_storage_binding;
	uint32_t min_uniform_align, min_storage_align, max_vertex_buffers;
	uint64_t max_buffer_size;
	uint32_t after[12];
} limits;

typedef struct {
	chain *next;
	limits limits;
} limits_box;

typedef struct {
	chain chain;
	uint32_t max_push_constant_size, max_non_sampler_bindings;
} limits_extras;

typedef void (*message_cb)(int code, const char *message, void *user);
typedef void (*device_cb)(int status, void *device, const char *message, void *user);

typedef struct {
	const chain *next;
	const char *label;
	size_t num_features;
	const int *features;
	const limits_box *required;
	struct {
		const chain *next;
		const char *label;
	} queue;
	message_cb lost;
	void *lost_user;
#ifndef QW_WGPU_0_17
	struct {
		const chain *next;
		message_cb callback;
		void *user;
	} uncaptured;
#endif
} device_descriptor;

#ifdef QW_WGPU_0_17
extern void wgpuDeviceSetUncapturedErrorCallback(void *device, message_cb callback, void *user);
#endif

extern uint32_t wgpuAdapterGetLimits(void *adapter, limits_box *supported);
extern void wgpuAdapterRequestDevice(void *adapter, const device_descriptor *desc, device_cb callback, void *user);

typedef struct {
	void *device;
	char *message;
} answer;

static void on_device(int status, void *device, const char *message, void *user) {
	answer *a = user;
	if (status == 0)
		a->device = device;
	else
		a->message = strdup(message ? message : "");
}

void *qw_request_device(void *adapter, qw_watch *watch, char **message) {
	limits_extras extras = {{NULL, STYPE_SUPPORTED_LIMITS_EXTRAS}, 0, 0};
	limits_box box;
	memset(&box, 0, sizeof box);
	box.next = &extras.chain;
	wgpuAdapterGetLimits(adapter, &box);
	if (box.limits.max_buffer_size > MAX_BUFFER_BYTES) box.limits.max_buffer_size = MAX_BUFFER_BYTES;
	extras.chain.type = STYPE_REQUIRED_LIMITS_EXTRAS;
	extras.max_push_constant_size = 0;

	device_descriptor desc;
	memset(&desc, 0, sizeof desc);
	desc.label = "qwen-wgpu";
	desc.required = &box;
	desc.lost = qw_on_lost;
	desc.lost_user = watch;
#ifndef QW_WGPU_0_17
	desc.uncaptured.callback = qw_on_uncaptured;
	desc.uncaptured.user = watch;
#endif
	answer a = {NULL, NULL};
	wgpuAdapterRequestDevice(adapter, &desc, on_device, &a);
#ifdef QW_WGPU_0_17
	if (a.device) wgpuDeviceSetUncapturedErrorCallback(a.device, qw_on_uncaptured, watch);
#endif
	*message = a.message;
	return a.device;
}
