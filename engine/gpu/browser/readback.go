//go:build js

package browser

// Downloads: glue.js copies into a staging buffer of its pool, behind the passes that come with it, and maps it; Wait copies
// the mapped bytes to their place.

import (
	"fmt"
	"runtime"
	"unsafe"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

type readback struct {
	d       *device
	label   string
	size    uint64
	mapping *mapping // nil when size is 0 or after Wait
	drop    runtime.Cleanup
	done    bool
}

// mapping is a staging buffer on its way to be mapped.
type mapping struct {
	d       *device
	staging uint32
	done    chan completion
}

func (d *device) Download(buf gpu.Buffer, offset, sizeBytes uint64, passes ...*gpu.Pass) (gpu.Readback, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.checks.Range("download from", buf, offset, sizeBytes, gpu.UsageCopySrc); err != nil {
		return nil, fmt.Errorf("browser: %w", err)
	}
	if err := d.ready(); err != nil {
		return nil, fmt.Errorf("browser: download from buffer %q: %w", buf.Label(), err)
	}
	if err := d.encodePasses(passes); err != nil {
		return nil, fmt.Errorf("browser: download from buffer %q: %w", buf.Label(), err)
	}
	code, numPasses := unsafe.Pointer(unsafe.SliceData(d.code)), uint32(len(d.code))
	r := &readback{d: d, label: buf.Label(), size: sizeBytes}
	if sizeBytes == 0 {
		if numPasses > 0 {
			jsSubmit(d.id, code, numPasses)
		}
		return r, nil
	}
	token, done := begin(d)
	r.mapping = &mapping{d: d, staging: jsDownload(d.id, token, buf.(*buffer).id, float64(offset), float64(sizeBytes), code, numPasses), done: done}
	r.drop = runtime.AddCleanup(r, func(m *mapping) { go m.abandon() }, r.mapping)
	return r, nil
}

// abandon gives back the staging buffer of a readback that nobody waited for.
func (m *mapping) abandon() {
	c := <-m.done
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if c.status == statusOK && m.d.usable() == nil {
		jsDrop(m.d.id, m.staging)
	}
}

func (r *readback) Wait(dst []byte) error {
	if uint64(len(dst)) != r.size {
		return fmt.Errorf("browser: download from buffer %q: %d bytes asked for, the destination has %d", r.label, r.size, len(dst))
	}
	d := r.d
	d.mu.Lock()
	again, m := r.done, r.mapping
	r.done, r.mapping = true, nil
	d.mu.Unlock()
	if again {
		return fmt.Errorf("browser: download from buffer %q: waited for twice", r.label)
	}
	if m == nil {
		return nil
	}
	r.drop.Stop()
	c := <-m.done
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.usable()
	if err == nil {
		err = c.err()
	}
	if err == nil {
		jsRead(d.id, m.staging, unsafe.Pointer(&dst[0]), uint32(len(dst)))
		err = d.ready()
	}
	if err != nil {
		return fmt.Errorf("browser: download from buffer %q: %w", r.label, err)
	}
	return nil
}
