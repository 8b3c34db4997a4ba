// Whether this browser can run the engine, and if not, why not.

export type Missing = "insecure" | "no-webgpu" | "no-adapter";

export interface Unsupported {
  missing: Missing;
  reason: string;
  advice: string;
}

// checkSupport asks for an adapter, which downloads nothing. null: all is there.
export async function checkSupport(): Promise<Unsupported | null> {
  if (!isSecureContext) {
    return {
      missing: "insecure",
      reason: `This page was loaded from ${location.origin}, which is not a secure address. Browsers offer WebGPU only on https or localhost.`,
      advice: "Open the page over https, or on the machine itself at http://localhost.",
    };
  }
  const gpu = (navigator as { gpu?: GPU }).gpu;
  if (!gpu) {
    return {
      missing: "no-webgpu",
      reason: "This browser has no WebGPU (navigator.gpu is missing), or has it turned off.",
      advice: "Update it, or use one of the browsers below.",
    };
  }
  let adapter: GPUAdapter | null = null;
  let said = "";
  try {
    adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (err) {
    said = ` (${err instanceof Error ? err.message : String(err)})`;
  }
  if (!adapter) {
    return {
      missing: "no-adapter",
      reason: `The browser has WebGPU, but found no GPU that it may use${said}.`,
      advice:
        "Turn on graphics acceleration in the browser’s settings and update the graphics driver. On Linux, Chrome may need chrome://flags/#enable-unsafe-webgpu and #enable-vulkan.",
    };
  }
  return null;
}

// browsers that have WebGPU turned on, by what they ship on.
export const browsers: { name: string; where: string }[] = [
  { name: "Chrome, Edge, Brave 113 or later", where: "Windows, macOS, ChromeOS" },
  { name: "Chrome 121 or later", where: "Android 12 or later" },
  { name: "Chrome 144 or later", where: "Linux, for recent GPUs; others with chrome://flags/#enable-unsafe-webgpu" },
  { name: "Safari 26 or later", where: "macOS 26, iOS 26, iPadOS 26" },
  { name: "Firefox 141 or later", where: "Windows; 145 or later on macOS with Apple silicon" },
];
