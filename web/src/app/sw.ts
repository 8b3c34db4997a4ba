// The service worker: keeps the page, its bundle and the wasm, so that a second visit needs no network. Models are not its
// business: the engine keeps them in OPFS.

export {}; // a module: self is the worker's own
declare const self: ServiceWorkerGlobalScope;
declare const PRECACHE: string[]; // the paths that a visit needs, from the build
declare const DEV: boolean;
declare const VERSION: string; // changes with any of them

const prefix = "qwen-wgpu-page-";
const cacheName = prefix + VERSION;
const base = new URL("./", self.location.href);
const kept = new Set(PRECACHE.map((p) => new URL(p, base).href));
const indexURL = new URL("index.html", base).href;

self.addEventListener("install", (event) => {
  event.waitUntil(
    (async () => {
      const cache = await caches.open(cacheName);
      await cache.addAll(
        // Names under assets/ change with their content; the others are asked for anew.
        PRECACHE.map((p) => new Request(new URL(p, base), { cache: p.startsWith("assets/") ? "default" : "no-cache" })),
      );
      await self.skipWaiting();
    })(),
  );
});

// The version before this one stays: an open tab may still need its files.
self.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      const old = (await caches.keys()).filter((name) => name.startsWith(prefix) && name !== cacheName);
      await Promise.all(old.slice(0, -1).map((name) => caches.delete(name)));
      await self.clients.claim();
    })(),
  );
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET") return;
  const url = new URL(request.url);
  url.hash = "";
  if (request.mode === "navigate") {
    if (url.href === indexURL || url.pathname === base.pathname) event.respondWith(page(request));
  } else if (url.href.startsWith(new URL("assets/", base).href) || kept.has(url.href)) {
    event.respondWith(asset(request));
  }
});

// page: the network's, so that a new version is seen at once, or the kept one when the network is slow or away.
async function page(request: Request): Promise<Response> {
  try {
    const response = await fetch(request, { signal: AbortSignal.timeout(4000) });
    if (response.ok || DEV) return response; // a failed build is shown
  } catch {
    // offline
  }
  const cache = await caches.open(cacheName);
  return (await cache.match(indexURL)) ?? fetch(request);
}

// asset: from any kept version, because the name tells the content.
async function asset(request: Request): Promise<Response> {
  return (await caches.match(request, { ignoreVary: true })) ?? fetch(request);
}
