//go:build linux && !js

package native

/*
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "vulkan.h"
*/
import "C"

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"unsafe"
)

// probeVulkan asks the Vulkan loader directly, once a process.
var probeVulkan = sync.OnceValue(func() *VulkanReport {
	quietLoader()
	raw := (*C.qw_vk_report)(C.calloc(1, C.sizeof_qw_vk_report))
	defer C.free(unsafe.Pointer(raw))
	C.qw_vk_probe(raw)
	r := &VulkanReport{
		Loader:        C.GoString(&raw.loader[0]),
		LoaderVersion: vulkanVersion(uint32(raw.loader_version)),
		Error:         C.GoString(&raw.error[0]),
	}
	for i := range int(raw.num_devices) {
		d := &raw.devices[i]
		r.Devices = append(r.Devices, VulkanDevice{
			Name:       C.GoString(&d.name[0]),
			Type:       vulkanType(uint32(d._type)),
			Driver:     strings.TrimSpace(C.GoString(&d.driver_name[0]) + " " + C.GoString(&d.driver_info[0])),
			APIVersion: vulkanVersion(uint32(d.api_version)),
			VendorID:   uint32(d.vendor_id), DeviceID: uint32(d.device_id),
			MemoryBytes: uint64(d.local_bytes),
		})
	}
	return r
})

func vulkanType(t uint32) string {
	names := [...]string{"unknown", "integrated", "discrete", "virtual", "cpu"}
	if int(t) < len(names) {
		return names[t]
	}
	return "unknown"
}

func canLoad(library string) (bool, string) {
	name := C.CString(library)
	defer C.free(unsafe.Pointer(name))
	var why [256]C.char
	ok := C.qw_can_load(name, &why[0], C.int(len(why)))
	return ok != 0, C.GoString(&why[0])
}

// hostMemoryBytes is the machine's memory, which is also that of a CPU device.
func hostMemoryBytes() uint64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "MemTotal:" && fields[2] == "kB" {
			kib, err := strconv.ParseUint(fields[1], 10, 54)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 0
}
