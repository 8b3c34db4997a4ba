//go:build !js

// Large writes: the data goes through a few staging buffers that stay allocated, since the library's own way allocates,
// pins and frees one for each write.

package native

/*
#include <stdlib.h>
#include "bridge.h"
#cgo noescape qw_fill
#cgo nocallback qw_fill
*/
import "C"

import (
	"errors"
	"fmt"
	"time"
	"unsafe"
)

const (
	numUploadSlots  = 4
	uploadSlotBytes = 8 << 20
)

// uploadSlot is one staging buffer: mapped for writing, or on its way to be mapped again behind the copy out of it.
type uploadSlot struct {
	raw    *wgpuBuffer
	ref    unsafe.Pointer
	status *C.int32_t
}

// uploader is guarded by the device's mutex.
type uploader struct {
	slots []*uploadSlot
	next  int
}

func (u *uploader) slot(d *device) (*uploadSlot, error) {
	if len(u.slots) < numUploadSlots {
		raw, err := d.createBuffer("native.upload", uploadSlotBytes, usageMapWrite|usageCopySrc)
		if err != nil {
			return nil, fmt.Errorf("staging buffer of %d bytes: %w", uploadSlotBytes, err)
		}
		s := &uploadSlot{raw: raw, ref: handle(raw), status: (*C.int32_t)(C.calloc(1, C.sizeof_int32_t))}
		u.slots = append(u.slots, s)
		return s, s.remap(d)
	}
	s := u.slots[u.next]
	u.next = (u.next + 1) % len(u.slots)
	return s, nil
}

func (s *uploadSlot) remap(d *device) error {
	var caught C.qw_error
	C.qw_map(d.dev, s.ref, C.QW_MAP_WRITE, uploadSlotBytes, s.status, &caught)
	return d.takeError(&caught)
}

// fill waits until the slot is mapped and copies data into it.
func (s *uploadSlot) fill(d *device, data []byte) error {
	for C.qw_status(s.status) == 0 {
		if err := d.usable(); err != nil {
			return err
		}
		var caught C.qw_error
		d.await(time.Time{}, func() bool { return C.qw_status(s.status) != 0 }, &caught)
		if err := d.takeError(&caught); err != nil {
			return err
		}
	}
	if status := int32(C.qw_status(s.status)) - 1; status != 0 {
		return mapError(status)
	}
	var caught C.qw_error
	found := C.qw_fill(d.dev, s.ref, unsafe.Pointer(&data[0]), C.size_t(len(data)), &caught)
	err := d.takeError(&caught)
	if err == nil && found == 0 {
		err = errors.New("the mapped memory could not be written")
	}
	return err
}

// write copies data to b. After an error no slot is kept, as one may never become mapped again.
func (u *uploader) write(d *device, b *buffer, offset uint64, data []byte) (err error) {
	defer func() {
		if err != nil {
			u.close()
		}
	}()
	for len(data) > 0 {
		chunk := data[:min(len(data), uploadSlotBytes)]
		s, err := u.slot(d)
		if err == nil {
			err = s.fill(d, chunk)
		}
		if err == nil {
			err = d.submitLocked([]C.qw_step{{
				op: C.QW_COPY, a: C.uintptr_t(uintptr(s.ref)),
				b: C.uintptr_t(uintptr(b.ref)), b_off: C.uint64_t(offset), size: C.uint64_t(len(chunk)),
			}})
		}
		if err == nil {
			err = s.remap(d)
		}
		if err != nil {
			return err
		}
		offset += uint64(len(chunk))
		data = data[len(chunk):]
	}
	return nil
}

func (u *uploader) close() {
	for _, s := range u.slots {
		C.qw_destroy_buffer(s.ref)
		s.raw.Release()
		C.free(unsafe.Pointer(s.status))
	}
	u.slots, u.next = nil, 0
}
