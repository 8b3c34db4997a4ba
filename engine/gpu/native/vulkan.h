// What the Vulkan loader says of its devices: names and versions of drivers and sizes of memory heaps, which the
// WebGPU library does not tell. The loader is opened at run time, so it is no build or run requirement.
#ifndef QW_VULKAN_H
#define QW_VULKAN_H

#include <stdint.h>

typedef struct {
	char name[256];
	char driver_name[256];
	char driver_info[256];
	uint32_t api_version, vendor_id, device_id, type; // type: VkPhysicalDeviceType
	uint64_t local_bytes; // the largest device-local heap
} qw_vk_device;

typedef struct {
	char loader[512]; // path, empty when there is no loader
	char error[256];
	uint32_t loader_version;
	int num_devices;
	qw_vk_device devices[16];
} qw_vk_report;

void qw_vk_probe(qw_vk_report *report);
// qw_can_load tells whether a shared library loads; error is filled when not.
int qw_can_load(const char *library, char *error, int error_size);

#endif
