//go:build linux && !js

#define _GNU_SOURCE
#include "vulkan.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The few structures of vulkan_core.h that are needed, with their published layouts.
typedef struct {
	int type;
	const void *next;
	const char *name;
	uint32_t version;
	const char *engine;
	uint32_t engine_version;
	uint32_t api_version;
} application_info;

typedef struct {
	int type;
	const void *next;
	uint32_t flags;
	const application_info *application;
	uint32_t num_layers;
	const char *const *layers;
	uint32_t num_extensions;
	const char *const *extensions;
} instance_info;

typedef struct {
	uint32_t api_version, driver_version, vendor_id, device_id;
	int device_type;
	char name[256];
	uint64_t rest[128]; // more than the limits and flags that follow
} properties;

typedef struct {
	int type;
	void *next;
	properties p;
} properties2;

typedef struct {
	int type;
	void *next;
	int driver_id;
	char name[256];
	char info[256];
	uint8_t conformance[4];
} driver_properties;

typedef struct {
	uint32_t num_types;
	struct {
		uint32_t flags, heap;
	} types[32];
	uint32_t num_heaps;
	struct {
		uint64_t size;
		uint32_t flags;
	} heaps[16];
} memory_properties;

enum {
	STRUCTURE_INSTANCE = 1,
	STRUCTURE_APPLICATION = 0,
	STRUCTURE_PROPERTIES_2 = 1000059001,
	STRUCTURE_DRIVER_PROPERTIES = 1000196000,
	HEAP_DEVICE_LOCAL = 1,
};

#define API_VERSION(major, minor) ((uint32_t)(major) << 22 | (uint32_t)(minor) << 12)

typedef void (*any_fn)(void);
typedef any_fn (*get_proc_fn)(void *instance, const char *name);

static void read_device(get_proc_fn get, void *instance, void *physical, qw_vk_device *out) {
	void (*get_properties)(void *, properties *) =
	    (void (*)(void *, properties *))get(instance, "vkGetPhysicalDeviceProperties");
	void (*get_properties2)(void *, properties2 *) =
	    (void (*)(void *, properties2 *))get(instance, "vkGetPhysicalDeviceProperties2");
	void (*get_memory)(void *, memory_properties *) =
	    (void (*)(void *, memory_properties *))get(instance, "vkGetPhysicalDeviceMemoryProperties");
	properties2 p;
	driver_properties d;
	memset(&p, 0, sizeof p);
	memset(&d, 0, sizeof d);
	if (!get_properties || !get_memory) return;
	get_properties(physical, &p.p);
	if (get_properties2 && p.p.api_version >= API_VERSION(1, 2)) {
		memset(&p, 0, sizeof p);
		p.type = STRUCTURE_PROPERTIES_2;
		p.next = &d;
		d.type = STRUCTURE_DRIVER_PROPERTIES;
		get_properties2(physical, &p);
	}
	snprintf(out->name, sizeof out->name, "%s", p.p.name);
	snprintf(out->driver_name, sizeof out->driver_name, "%s", d.name);
	snprintf(out->driver_info, sizeof out->driver_info, "%s", d.info);
	out->api_version = p.p.api_version;
	out->vendor_id = p.p.vendor_id;
	out->device_id = p.p.device_id;
	out->type = (uint32_t)p.p.device_type;
	memory_properties m;
	memset(&m, 0, sizeof m);
	get_memory(physical, &m);
	for (uint32_t i = 0; i < m.num_heaps && i < 16; i++)
		if ((m.heaps[i].flags & HEAP_DEVICE_LOCAL) && m.heaps[i].size > out->local_bytes)
			out->local_bytes = m.heaps[i].size;
}

void qw_vk_probe(qw_vk_report *report) {
	memset(report, 0, sizeof *report);
	void *library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		const char *why = dlerror();
		snprintf(report->error, sizeof report->error, "%s", why ? why : "libvulkan.so.1 cannot be opened");
		return;
	}
	get_proc_fn get = (get_proc_fn)dlsym(library, "vkGetInstanceProcAddr");
	Dl_info where;
	if (get && dladdr((void *)get, &where) && where.dli_fname)
		snprintf(report->loader, sizeof report->loader, "%s", where.dli_fname);
	else
		snprintf(report->loader, sizeof report->loader, "libvulkan.so.1");
	if (!get) {
		snprintf(report->error, sizeof report->error, "the loader has no vkGetInstanceProcAddr");
		return;
	}
	int (*get_version)(uint32_t *) = (int (*)(uint32_t *))get(NULL, "vkEnumerateInstanceVersion");
	if (get_version) get_version(&report->loader_version);
	int (*create)(const instance_info *, const void *, void **) =
	    (int (*)(const instance_info *, const void *, void **))get(NULL, "vkCreateInstance");
	application_info app = {STRUCTURE_APPLICATION, NULL, "qwen-wgpu", 1, NULL, 0, API_VERSION(1, 2)};
	instance_info info = {STRUCTURE_INSTANCE, NULL, 0, &app, 0, NULL, 0, NULL};
	void *instance = NULL;
	int result = create ? create(&info, NULL, &instance) : -1;
	if (result != 0) {
		snprintf(report->error, sizeof report->error, "vkCreateInstance failed with VkResult %d%s", result,
		         result == -9 ? " (incompatible driver: no Vulkan driver was found)" : "");
		return;
	}
	int (*enumerate)(void *, uint32_t *, void **) =
	    (int (*)(void *, uint32_t *, void **))get(instance, "vkEnumeratePhysicalDevices");
	void (*destroy)(void *, const void *) = (void (*)(void *, const void *))get(instance, "vkDestroyInstance");
	void *physical[16];
	uint32_t n = 16;
	if (enumerate) result = enumerate(instance, &n, physical);
	if (!enumerate || result < 0) {
		snprintf(report->error, sizeof report->error, "vkEnumeratePhysicalDevices failed with VkResult %d", result);
		n = 0;
	}
	for (uint32_t i = 0; i < n; i++) read_device(get, instance, physical[i], &report->devices[i]);
	report->num_devices = (int)n;
	if (destroy) destroy(instance, NULL);
}

int qw_can_load(const char *library, char *error, int error_size) {
	void *handle = dlopen(library, RTLD_LAZY | RTLD_LOCAL);
	if (handle) {
		dlclose(handle);
		return 1;
	}
	const char *why = dlerror();
	snprintf(error, (size_t)error_size, "%s", why ? why : "cannot be opened");
	return 0;
}
