//go:build !js

// What a user needs to know when there is no adapter, or not the expected one. The program's doctor command prints it.

package native

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
)

// Report is what Diagnose found.
type Report struct {
	OS           string            `json:"os"`
	Arch         string            `json:"arch"`
	Driver       string            `json:"driver"`  // Go module of the binding
	Library      string            `json:"library"` // version of wgpu-native
	Adapters     []Adapter         `json:"adapters"`
	Best         int               `json:"best"`             // index of the adapter that Open picks, -1 without one
	Vulkan       *VulkanReport     `json:"vulkan,omitempty"` // Linux only
	ICDs         []ICD             `json:"icds,omitempty"`   // Linux only
	RenderNodes  []RenderNode      `json:"render_nodes,omitempty"`
	NVIDIADriver string            `json:"nvidia_driver,omitempty"` // version of the kernel module
	Environment  map[string]string `json:"environment,omitempty"`   // variables that steer the Vulkan loader, where set
	Advice       []string          `json:"advice,omitempty"`        // what is missing and what to install
}

// ICD is a file that tells the Vulkan loader of one driver.
type ICD struct {
	Path    string `json:"path"`
	Library string `json:"library"`
	Error   string `json:"error,omitempty"`
}

// RenderNode is a device file through which GPUs are reached.
type RenderNode struct {
	Path  string `json:"path"`
	Error string `json:"error,omitempty"` // why it cannot be opened
}

var loaderVariables = []string{
	"VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES", "VK_LOADER_DRIVERS_SELECT", "VK_LOADER_DRIVERS_DISABLE",
	"VK_INSTANCE_LAYERS", "MESA_VK_DEVICE_SELECT", "NODEVICE_SELECT", "LIBGL_ALWAYS_SOFTWARE", "LD_LIBRARY_PATH",
	"NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_VISIBLE_DEVICES", "WGPU_BACKEND", "XDG_DATA_DIRS",
}

// Diagnose looks for adapters and for what they need. It never fails: what could not be found is part of the report.
func Diagnose() Report {
	r := Report{OS: runtime.GOOS, Arch: runtime.GOARCH, Driver: driverModule, Library: "wgpu-native " + libraryVersion(), Best: -1}
	r.Environment = map[string]string{}
	for _, name := range loaderVariables {
		if value, set := os.LookupEnv(name); set && !(quieted && name == "NODEVICE_SELECT") {
			r.Environment[name] = value
		}
	}
	found := enumerate()
	for _, c := range found {
		r.Adapters = append(r.Adapters, c.Adapter)
	}
	if best, err := choose(found, Options{}); err == nil {
		r.Best = best.Index
	}
	r.Vulkan = probeVulkan()
	if runtime.GOOS == "linux" {
		r.ICDs = findICDs()
		r.RenderNodes = findRenderNodes()
		r.NVIDIADriver = nvidiaDriver()
	}
	r.Advice = advise(&r)
	return r
}

// findICDs follows the loader's search order.
func findICDs() []ICD {
	var icds []ICD
	for _, name := range []string{"VK_DRIVER_FILES", "VK_ICD_FILENAMES"} {
		if list := os.Getenv(name); list != "" {
			for _, path := range filepath.SplitList(list) {
				if info, err := os.Stat(path); err == nil && info.IsDir() {
					icds = append(icds, icdsIn(path)...)
				} else {
					icds = append(icds, readICD(path))
				}
			}
			return icds
		}
	}
	for _, path := range filepath.SplitList(os.Getenv("VK_ADD_DRIVER_FILES")) {
		icds = append(icds, readICD(path))
	}
	home, _ := os.UserHomeDir()
	var roots []string
	add := func(variable, otherwise string) {
		if value := os.Getenv(variable); value != "" {
			otherwise = value
		}
		roots = append(roots, filepath.SplitList(otherwise)...)
	}
	add("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	add("XDG_CONFIG_DIRS", "/etc/xdg")
	roots = append(roots, "/usr/local/etc", "/etc")
	add("XDG_DATA_HOME", filepath.Join(home, ".local/share"))
	add("XDG_DATA_DIRS", "/usr/local/share:/usr/share")
	seen := map[string]bool{}
	for _, root := range roots {
		if dir := filepath.Join(root, "vulkan/icd.d"); !seen[dir] {
			seen[dir] = true
			icds = append(icds, icdsIn(dir)...)
		}
	}
	return icds
}

func icdsIn(dir string) []ICD {
	paths, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	sort.Strings(paths)
	var icds []ICD
	for _, path := range paths {
		icds = append(icds, readICD(path))
	}
	return icds
}

func readICD(path string) ICD {
	icd := ICD{Path: path}
	text, err := os.ReadFile(path)
	if err != nil {
		icd.Error = err.Error()
		return icd
	}
	var file struct {
		ICD struct {
			LibraryPath string `json:"library_path"`
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		icd.Error = "not valid JSON: " + err.Error()
		return icd
	}
	icd.Library = file.ICD.LibraryPath
	library := icd.Library
	if strings.Contains(library, "/") && !filepath.IsAbs(library) {
		library = filepath.Join(filepath.Dir(path), library)
	}
	if library == "" {
		icd.Error = "names no library"
	} else if ok, why := canLoad(library); !ok {
		icd.Error = why
	}
	return icd
}

func findRenderNodes() []RenderNode {
	var nodes []RenderNode
	paths, _ := filepath.Glob("/dev/dri/renderD*")
	more, _ := filepath.Glob("/dev/nvidia[0-9]*")
	for _, path := range append(paths, more...) {
		node := RenderNode{Path: path}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			node.Error = err.Error()
		} else {
			f.Close()
		}
		nodes = append(nodes, node)
	}
	return nodes
}

func nvidiaDriver() string {
	text, err := os.ReadFile("/sys/module/nvidia/version")
	if err != nil {
		text, err = os.ReadFile("/proc/driver/nvidia/version")
	}
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line
}

// advise turns the findings into what to do.
func advise(r *Report) []string {
	var advice []string
	say := func(format string, args ...any) { advice = append(advice, fmt.Sprintf(format, args...)) }
	hardware := false
	for _, a := range r.Adapters {
		hardware = hardware || a.Info.Type != "cpu"
	}
	if r.Vulkan != nil && r.Vulkan.Loader == "" {
		say("The Vulkan loader (libvulkan.so.1) is missing. Install it: apt-get install libvulkan1 (Fedora: vulkan-loader).")
	}
	for _, name := range []string{"VK_DRIVER_FILES", "VK_ICD_FILENAMES"} {
		if list := r.Environment[name]; list != "" && !hardware {
			say("%s is set to %q, so that only these drivers are looked at. Unset it if a GPU is missing.", name, list)
			break
		}
	}
	denied := false
	for _, n := range r.RenderNodes {
		if n.Error != "" && !denied {
			denied = true
			say("A GPU's device file cannot be opened (%s). Usually the user must be in the group \"render\" or \"video\".", n.Error)
		}
	}
	if r.NVIDIADriver != "" && !hasVendor(r.Adapters, 0x10de) {
		say("The NVIDIA kernel driver is loaded but Vulkan does not see the GPU: its Vulkan files (nvidia_icd.json, libGLX_nvidia.so.0 " +
			"and what they need) are missing. In a container set NVIDIA_DRIVER_CAPABILITIES=all (or compute,graphics,utility) " +
			"and install libvulkan1, libgl1 and libxext6.")
	}
	for _, icd := range r.ICDs {
		if icd.Error != "" {
			say("The driver file %s cannot be used: %s.", icd.Path, icd.Error)
		}
	}
	switch {
	case len(r.Adapters) == 0:
		say("%s.", upperFirst(installAdvice()))
	case !hardware:
		say("Only a CPU device was found. It works, slowly; for a GPU install its vendor's Vulkan driver.")
	}
	return advice
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func hasVendor(adapters []Adapter, vendorID uint32) bool {
	for _, a := range adapters {
		if a.VendorID == vendorID {
			return true
		}
	}
	return false
}

// WriteTo writes the report in plain words.
func (r Report) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "System    %s/%s, %s through %s\n", r.OS, r.Arch, r.Library, r.Driver)
	for _, a := range r.Adapters {
		mark := " "
		if a.Index == r.Best {
			mark = "*"
		}
		fmt.Fprintf(&b, "Adapter %s %d: %s (%s, %s)\n", mark, a.Index, a.Info.Name, a.Info.Type, a.Info.Backend)
		if a.Info.Driver != "" {
			fmt.Fprintf(&b, "            driver: %s\n", a.Info.Driver)
		}
		memory := "not known"
		if a.Limits.MemoryBytes != 0 {
			memory = bytesText(a.Limits.MemoryBytes)
		}
		fmt.Fprintf(&b, "            memory: %s; one buffer up to %s, one binding up to %s\n",
			memory, bytesText(a.Limits.MaxBufferBytes), bytesText(a.Limits.MaxStorageBindingBytes))
		fmt.Fprintf(&b, "            workgroups: %d invocations, %s of memory; f16 in WGSL: %s; subgroups: %s; timestamps: %s\n",
			a.Limits.MaxInvocationsPerWorkgroup, bytesText(uint64(a.Limits.MaxWorkgroupStorageBytes)),
			yesNo(a.Limits.HasShaderF16), yesNo(a.Limits.HasSubgroups), yesNo(a.Limits.HasTimestamps))
	}
	if len(r.Adapters) == 0 {
		b.WriteString("Adapter   none\n")
	} else if r.Best >= 0 {
		fmt.Fprintf(&b, "            (* is what --device gpu uses unless another is asked for)\n")
	}
	r.writeVulkan(&b)
	for _, n := range r.RenderNodes {
		fmt.Fprintf(&b, "Device    %s: %s\n", n.Path, orElse(n.Error, "can be opened"))
	}
	if r.NVIDIADriver != "" {
		fmt.Fprintf(&b, "NVIDIA    kernel driver %s\n", r.NVIDIADriver)
	}
	names := make([]string, 0, len(r.Environment))
	for name := range r.Environment {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(&b, "Variable  %s=%s\n", name, r.Environment[name])
	}
	for _, line := range r.Advice {
		fmt.Fprintf(&b, "Advice    %s\n", line)
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (r Report) writeVulkan(b *strings.Builder) {
	if r.Vulkan == nil {
		return
	}
	if r.Vulkan.Loader == "" {
		fmt.Fprintf(b, "Vulkan    no loader: %s\n", r.Vulkan.Error)
	} else {
		fmt.Fprintf(b, "Vulkan    loader %s %s\n", r.Vulkan.Loader, r.Vulkan.LoaderVersion)
		if r.Vulkan.Error != "" {
			fmt.Fprintf(b, "          %s\n", r.Vulkan.Error)
		}
	}
	for _, d := range r.Vulkan.Devices {
		fmt.Fprintf(b, "          device: %s (%s), Vulkan %s, %s\n", d.Name, d.Type, d.APIVersion, d.Driver)
	}
	for _, icd := range r.ICDs {
		fmt.Fprintf(b, "          driver file %s -> %s: %s\n", icd.Path, orElse(icd.Library, "?"), orElse(icd.Error, "loads"))
	}
	if len(r.ICDs) == 0 {
		fmt.Fprintf(b, "          no driver file (icd.d/*.json) found\n")
	}
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func bytesText(n uint64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.0f GiB", float64(n)/(1<<30))
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
}
