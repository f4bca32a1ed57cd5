// The application's shell without a network. What it shows of people and money always comes from the server: nothing
// but the shell's own files is kept, and only a page or such a file is answered from here.
export {};

declare const self: ServiceWorkerGlobalScope;
declare const __SHELL__: readonly string[];
declare const __VERSION__: string;

const CACHE = `shell-${__VERSION__}`;

/** The server's own pages and files: without a network they are not there. */
const SERVERS = /^\/(?:assets|files|graphiql|graphql|livez|mails|p|password|readyz|templates)(?:\/|$)/;

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(["/", ...__SHELL__])));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) => Promise.all(names.filter((name) => name !== CACHE).map((name) => caches.delete(name)))),
  );
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== self.location.origin) return;
  if (request.mode === "navigate" && !SERVERS.test(pathname)) {
    event.respondWith(fetch(request).catch(() => kept("/")));
  } else if (__SHELL__.includes(pathname)) {
    event.respondWith(kept(pathname));
  }
});

/** What is kept; fetched when the browser has thrown it away. */
async function kept(path: string): Promise<Response> {
  return (await caches.match(path, { cacheName: CACHE })) ?? fetch(path);
}
