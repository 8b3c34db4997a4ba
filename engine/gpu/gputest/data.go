package gputest

import (
	"fmt"
	"sync"

	"github.com/qwen-wgpu/qwen-wgpu/engine/gpu"
)

// Checks of buffers, writes, copies and downloads.
var dataChecks = []Check{
	{"info and limits", checkLimits},
	{"new buffers are zero", checkZeroFilled},
	{"write and read back", checkRoundTrip},
	{"large write", checkLargeWrite},
	{"empty ranges", checkEmpty},
	{"copies", checkCopies},
	{"copies within one buffer", checkSelfCopies},
	{"writes are ordered with passes", checkWriteOrder},
	{"downloads in flight", checkDownloadsInFlight},
	{"downloads from several goroutines", checkDownloadsConcurrently},
	{"download keeps its moment", checkDownloadMoment},
	{"download behind passes", checkDownloadBehindPasses},
	{"passes that grow", checkGrowingPass},
	{"release after use", checkReleaseAfterUse},
}

func checkLimits(c *context) {
	info, l := c.Info(), c.Limits()
	if info.Name == "" || info.Backend == "" || info.Library == "" || info.Type == "" {
		c.fail("info is incomplete: %+v", info)
	}
	for _, n := range []struct {
		name      string
		got, want uint64
	}{
		{"MaxBufferBytes", l.MaxBufferBytes, 256 << 20},
		{"MaxStorageBindingBytes", l.MaxStorageBindingBytes, 128 << 20},
		{"MaxUniformBindingBytes", l.MaxUniformBindingBytes, 16 << 10},
		{"MaxStorageBuffersPerStage", uint64(l.MaxStorageBuffersPerStage), 8},
		{"MaxWorkgroupStorageBytes", uint64(l.MaxWorkgroupStorageBytes), 16 << 10},
		{"MaxInvocationsPerWorkgroup", uint64(l.MaxInvocationsPerWorkgroup), 256},
		{"MaxWorkgroupSizeX", uint64(l.MaxWorkgroupSizeX), 256},
		{"MaxWorkgroupsPerDimension", uint64(l.MaxWorkgroupsPerDimension), 65535},
	} {
		if n.got < n.want {
			c.fail("%s is %d, less than the %d that WebGPU promises", n.name, n.got, n.want)
		}
	}
	for _, align := range []uint32{l.MinStorageOffsetAlignment, l.MinUniformOffsetAlignment} {
		if align == 0 || align > 256 || align&(align-1) != 0 {
			c.fail("offset alignment %d is no power of two up to 256", align)
		}
	}
	if l.MaxBufferBytes%4 != 0 || l.MaxStorageBindingBytes%4 != 0 {
		c.fail("limits %d and %d are not multiples of 4", l.MaxBufferBytes, l.MaxStorageBindingBytes)
	}
}

func checkZeroFilled(c *context) {
	for round := 0; round < 3; round++ {
		b := c.buffer("fresh", 1<<16, storageUsages)
		c.same("fresh buffer", c.read(b, 0, 1<<14), make([]uint32, 1<<14))
		c.must(c.Write(b, 0, bytesOf(counting(1<<14, 7))))
		c.submit()
		b.Release()
	}
}

func checkRoundTrip(c *context) {
	for i, n := range []int{1, 2, 3, 63, 64, 65, 1000, 4096, 70001} {
		values := counting(n, uint32(i))
		b := c.words(fmt.Sprintf("round trip %d", n), values, storageUsages)
		if b.Size() != uint64(4*n) || b.Label() == "" {
			c.fail("buffer of %d words has size %d and label %q", n, b.Size(), b.Label())
		}
		c.same(fmt.Sprintf("%d words", n), c.read(b, 0, n), values)
		if n < 64 {
			continue
		}
		part := counting(17, 99)
		c.must(c.Write(b, 4*20, bytesOf(part)))
		copy(values[20:], part)
		c.same("a part of the words", c.read(b, 4*19, 40), values[19:59])
		c.same("all words after a partial write", c.read(b, 0, n), values)
	}
}

func checkLargeWrite(c *context) {
	const n = 36<<18 + 3 // more than 36 MiB: no multiple of any chunk, and more than a backend stages at once
	values := counting(n, 5)
	b := c.buffer("large", 4*(n+2), storageUsages)
	c.must(c.Write(b, 4, bytesOf(values)))
	c.same("large write", c.read(b, 4, n), values)
	c.same("word before a large write", c.read(b, 0, 1), []uint32{0})
	c.same("word after a large write", c.read(b, 4*(n+1), 1), []uint32{0})

	// Large and small writes to one place, without a wait between them: the last one stays.
	for i := range uint32(10) {
		large := counting(2<<18, i)
		c.must(c.Write(b, 0, bytesOf([]uint32{1, 2})))
		c.must(c.Write(b, 4, bytesOf(large)))
		c.must(c.Write(b, 8, bytesOf([]uint32{i})))
		large[1] = i
		c.same("small and large writes", c.read(b, 0, 1+len(large)), append([]uint32{1}, large...))
	}
}

func checkEmpty(c *context) {
	b := c.words("some", []uint32{1, 2}, storageUsages)
	c.must(c.Write(b, 8, nil))
	r, err := c.Download(b, 8, 0)
	c.must(err)
	c.must(r.Wait(nil))
	c.must(c.Submit(&gpu.Pass{}))
	o := c.buffer("other", 8, storageUsages)
	c.submit(gpu.Step{Src: b, SrcOffset: 8, Dst: o, DstOffset: 8})
	c.same("untouched words", c.read(b, 0, 2), []uint32{1, 2})
	k := c.kernel("fill", fillWGSL, gpu.BindStorage)
	g := c.bind(k, gpu.Whole(b))
	c.submit(dispatch(k, g, 0, 1, 1), dispatch(k, g, 1, 0, 1), dispatch(k, g, 1, 1, 0))
	c.same("words after empty dispatches", c.read(b, 0, 2), []uint32{1, 2})
}

func checkCopies(c *context) {
	values := counting(1000, 1)
	a := c.words("a", values, storageUsages)
	b := c.buffer("b", 4000, storageUsages)
	d := c.buffer("d", 4000, storageUsages)
	pass := &gpu.Pass{Label: "copies"}
	pass.Copy(a, 0, b, 400, 400)   // b[100:200] = a[0:100]
	pass.Copy(b, 400, d, 0, 40)    // d[0:10] = a[0:10]
	pass.Copy(a, 3600, b, 400, 40) // b[100:110] = a[900:910]
	pass.Copy(b, 400, d, 40, 400)  // d[10:110] = b[100:200]
	c.must(c.Submit(pass))
	want := make([]uint32, 1000)
	copy(want, values[:10])
	copy(want[10:], values[:100])
	copy(want[10:], values[900:910])
	c.same("copies in order", c.read(d, 0, 1000), want)
}

func checkSelfCopies(c *context) {
	const n = 3 << 19 // 6 MiB, more than any scratch buffer
	values := counting(2*n, 2)
	b := c.words("pages", values, storageUsages)
	pass := &gpu.Pass{Label: "copies within one buffer"}
	pass.Copy(b, 0, b, 4*n, 4*n)
	pass.Copy(b, 4*100, b, 4*50, 4*50)
	pass.Copy(b, 4*(2*n-1), b, 0, 4)
	c.must(c.Submit(pass))
	copy(values[n:], values[:n])
	copy(values[50:100], values[100:150])
	values[0] = values[2*n-1]
	c.same("copies within one buffer", c.read(b, 0, 2*n), values)

	for _, at := range []uint64{0, 4, 36, 72} {
		overlap := &gpu.Pass{Label: "overlap"}
		overlap.Copy(b, 36, b, at, 40)
		c.refuses("overlapping copy", c.Submit(overlap), "pages", "overlap")
	}
}

func checkWriteOrder(c *context) {
	k := c.kernel("add", addParamWGSL, gpu.BindUniform, gpu.BindStorage)
	params := c.buffer("params", 16, gpu.UsageUniform|gpu.UsageCopyDst)
	sum := c.buffer("sum", 256, storageUsages)
	pass := &gpu.Pass{Label: "write order", Steps: []gpu.Step{dispatch(k, c.bind(k, gpu.Whole(params), gpu.Whole(sum)), 1, 1, 1)}}
	want := uint32(0)
	for i := uint32(1); i <= 50; i++ {
		// Each pass must see the value written just before it, although nothing waits between them.
		c.must(c.Write(params, 0, bytesOf([]uint32{i, 3, 0, 0})))
		c.must(c.Submit(pass))
		want = (want + i) * 3
	}
	c.same("sum of the written values", c.read(sum, 0, 1), []uint32{want})
}

func checkDownloadsInFlight(c *context) {
	k := c.kernel("add", addParamWGSL, gpu.BindUniform, gpu.BindStorage)
	params := c.words("params", []uint32{1, 1, 0, 0}, gpu.UsageUniform|gpu.UsageCopyDst)
	counter := c.buffer("counter", 256, storageUsages)
	pass := &gpu.Pass{Label: "count", Steps: []gpu.Step{dispatch(k, c.bind(k, gpu.Whole(params), gpu.Whole(counter)), 1, 1, 1)}}
	const n = 24
	var pending [n]gpu.Readback
	for i := range pending {
		c.must(c.Submit(pass))
		r, err := c.Download(counter, 0, 4+16*uint64(i%3))
		c.must(err)
		pending[i] = r
	}
	// The middle first, then the newest to the oldest.
	order := []int{n / 2}
	for i := n - 1; i >= 0; i-- {
		if i != n/2 {
			order = append(order, i)
		}
	}
	for _, i := range order {
		raw := make([]byte, 4+16*(i%3))
		c.must(pending[i].Wait(raw))
		if got := wordsOf(raw)[0]; got != uint32(i+1) {
			c.fail("download %d says %d, want %d", i, got, i+1)
		}
	}
	c.refuses("second wait", pending[0].Wait(make([]byte, 4)))
	r, err := c.Download(counter, 0, 8)
	c.must(err)
	c.refuses("wait with a short destination", r.Wait(make([]byte, 4)), "counter", "8", "4")
	c.must(r.Wait(make([]byte, 8)))
}

func checkDownloadsConcurrently(c *context) {
	const numGoroutines, numRounds = 6, 12
	k := c.kernel("add", addParamWGSL, gpu.BindUniform, gpu.BindStorage)
	params := c.words("params", []uint32{1, 1, 0, 0}, gpu.UsageUniform|gpu.UsageCopyDst)
	errs := make([]error, numGoroutines)
	var wg sync.WaitGroup
	for i := 0; i < numGoroutines; i++ {
		b := c.buffer(fmt.Sprintf("counter %d", i), 256, storageUsages)
		group := c.bind(k, gpu.Whole(params), gpu.Whole(b))
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = count(c.Device, k, group, b, numRounds)
		}()
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			c.fail("goroutine %d: %v", i, err)
		}
	}
}

func count(d gpu.Device, k gpu.Kernel, g gpu.BindGroup, b gpu.Buffer, numRounds int) error {
	pass := &gpu.Pass{Label: b.Label(), Steps: []gpu.Step{dispatch(k, g, 1, 1, 1)}}
	raw := make([]byte, 4)
	for round := 1; round <= numRounds; round++ {
		if err := d.Submit(pass); err != nil {
			return err
		}
		if err := gpu.Read(d, b, 0, raw); err != nil {
			return err
		}
		if got := wordsOf(raw)[0]; got != uint32(round) {
			return fmt.Errorf("round %d reads %d", round, got)
		}
	}
	return nil
}

// A download sees what was submitted before it and nothing of what comes after.
func checkDownloadMoment(c *context) {
	b := c.words("moment", []uint32{1}, storageUsages)
	first, err := c.Download(b, 0, 4)
	c.must(err)
	c.must(c.Write(b, 0, bytesOf([]uint32{2})))
	second, err := c.Download(b, 0, 4)
	c.must(err)
	k := c.kernel("fill", fillWGSL, gpu.BindStorage)
	c.submit(dispatch(k, c.bind(k, gpu.Whole(b)), 1, 1, 1))
	raw := make([]byte, 4)
	c.must(first.Wait(raw))
	c.same("before the write", wordsOf(raw), []uint32{1})
	c.must(second.Wait(raw))
	c.same("before the pass", wordsOf(raw), []uint32{2})
	c.same("after the pass", c.read(b, 0, 1), []uint32{0xabcd0000})
}

// A download brings its passes with it: they run in order, and the copy is behind them and before what comes next.
func checkDownloadBehindPasses(c *context) {
	k := c.kernel("add", addParamWGSL, gpu.BindUniform, gpu.BindStorage)
	params := c.words("params", []uint32{1, 3, 0, 0}, gpu.UsageUniform|gpu.UsageCopyDst)
	sum, old := c.buffer("sum", 256, storageUsages), c.buffer("old", 256, storageUsages)
	add := &gpu.Pass{Label: "add", Steps: []gpu.Step{dispatch(k, c.bind(k, gpu.Whole(params), gpu.Whole(sum)), 1, 1, 1)}}
	keep := &gpu.Pass{Label: "keep"}
	keep.Copy(sum, 0, old, 0, 4)
	var pending []gpu.Readback
	var want []uint32
	last, kept := uint32(0), uint32(0)
	for i := range uint32(20) {
		c.must(c.Write(params, 0, bytesOf([]uint32{i, 3, 0, 0})))
		var passes []*gpu.Pass
		for range i % 4 {
			passes = append(passes, add)
			last = (last + i) * 3
		}
		if i%4 == 3 {
			passes = append(passes, keep, add)
			last, kept = (last+i)*3, last
		}
		r, err := c.Download(sum, 0, 4, passes...)
		c.must(err)
		pending, want = append(pending, r), append(want, last)
	}
	for i, r := range pending {
		raw := make([]byte, 4)
		c.must(r.Wait(raw))
		c.same(fmt.Sprintf("download %d", i), wordsOf(raw), want[i:i+1])
	}
	c.same("copied by a pass in the middle", c.read(old, 0, 1), []uint32{kept})

	r, err := c.Download(sum, 0, 0, add)
	c.must(err)
	c.must(r.Wait(nil))
	c.same("after a download of nothing", c.read(sum, 0, 1), []uint32{(last + 19) * 3})

	bad := &gpu.Pass{Label: "bad", Steps: []gpu.Step{{}}}
	for _, passes := range [][]*gpu.Pass{{bad}, {add, bad}, {bad, add}, {add, nil}} {
		r, err := c.Download(sum, 0, 4, passes...)
		c.refuses("download behind a bad pass", err, "pass")
		if r != nil {
			c.fail("a readback came with the error")
		}
	}
	_, err = c.Download(sum, 256, 4, add)
	c.refuses("download of a bad range behind a pass", err, "sum")
	c.same("after refused downloads", c.read(sum, 0, 1), []uint32{(last + 19) * 3})
}

// A pass may be appended to and submitted again, whatever the device keeps of it.
func checkGrowingPass(c *context) {
	k := c.kernel("add", addParamWGSL, gpu.BindUniform, gpu.BindStorage)
	params := c.words("params", []uint32{1, 1, 0, 0}, gpu.UsageUniform|gpu.UsageCopyDst)
	sum := c.buffer("sum", 256, storageUsages)
	g := c.bind(k, gpu.Whole(params), gpu.Whole(sum))
	pass := &gpu.Pass{Label: "grows"}
	want := uint32(0)
	for i := range uint32(6) {
		pass.Dispatch(k, g, 1, 1, 1)
		c.must(c.Submit(pass))
		c.must(c.Submit(pass))
		want += 2 * (i + 1)
	}
	c.same("dispatches of a growing pass", c.read(sum, 0, 1), []uint32{want})
	// Something else is released: the pass still runs.
	c.buffer("other", 64, storageUsages).Release()
	c.must(c.Submit(pass))
	c.same("after a release elsewhere", c.read(sum, 0, 1), []uint32{want + 6})
}

// Buffers, kernels and bind groups are released while other work goes on; a release is final and may be repeated.
func checkReleaseAfterUse(c *context) {
	k := c.kernel("fill", fillWGSL, gpu.BindStorage)
	keep := c.buffer("keep", 64, storageUsages)
	for i := 0; i < 40; i++ {
		b := c.buffer("temporary", 1<<20, storageUsages)
		c.must(c.Write(b, 0, bytesOf([]uint32{uint32(i)})))
		g := c.bind(k, gpu.Whole(b))
		if i%2 == 0 {
			c.submit(dispatch(k, g, 16, 1, 1), gpu.Step{Src: b, SrcOffset: 4, Dst: keep, SizeBytes: 4})
			c.same("filled word", c.read(keep, 0, 1), []uint32{0xabcd0001})
		}
		g.Release()
		b.Release()
		b.Release()
		g.Release()
	}
	k.Release()
	k.Release()
}
