// The application's shell without a network. What it shows of people and money always comes from the server: nothing
// but the shell's own files is kept, and only a page or such a file is answered from here. It also shows pushes (P22).
export {};

declare const self: ServiceWorkerGlobalScope;
declare const __SHELL__: readonly string[];
declare const __VERSION__: string;

const CACHE = `shell-${__VERSION__}`;

/** The server's own pages and files: without a network they are not there. */
const SERVERS = /^\/(?:assets|files|graphiql|graphql|livez|mails|marks|p|password|readyz|templates)(?:\/|$)/;

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

self.addEventListener("push", (event) => {
  if (!event.data) return;
  const { title, body, url } = event.data.json() as { title: string; body: string; url: string };
  const path = screenOf(url);
  // The same request twice takes its own place.
  event.waitUntil(self.registration.showNotification(title, { body, tag: path, data: path, icon: "/icon-180.png" }));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(opened(String(event.notification.data)));
});

/** Our screen for what a link leads to: a request's link is that of its page without a script. */
function screenOf(url: string): string {
  return new URL(url, self.location.origin).pathname.replace(/^\/p\//, "/offers/");
}

/** A window that shows the screen already; else a new one, so that nothing that somebody types is lost. */
async function opened(path: string): Promise<void> {
  const windows = await self.clients.matchAll({ type: "window" });
  const there = windows.find(({ url }) => new URL(url).pathname === path);
  await (there ? there.focus() : self.clients.openWindow(path));
}

/** What is kept; fetched when the browser has thrown it away. */
async function kept(path: string): Promise<Response> {
  return (await caches.match(path, { cacheName: CACHE })) ?? fetch(path);
}
