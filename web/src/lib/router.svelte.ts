import type { Component } from "svelte";

/** Where the visitor is, from the address; the browser's own history is the only one. */
class Place {
  path = $state(location.pathname);
  query = $state(new URLSearchParams(location.search));
  /** Grows with every step to another screen, so that the screen knows to take the focus. */
  steps = $state(0);
}

export const place = new Place();

/** What the server answers itself, in front of every screen. */
const SERVERS =
  /^\/(?:(?:files|graphiql|graphql|mails|p|password|templates)(?:\/|$)|(?:statements|transfers)\/.|vouchers\/[^/]+\/.|reimbursements\/.*\.(?:pdf|xlsx)$)/;

/** Go to a screen of ours. */
export function go(address: string, { replace = false } = {}): void {
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  arrived();
}

/** Change the query alone: the same screen, another filter. Empty values leave it. */
export function filter(changes: Readonly<Record<string, string | null>>): void {
  const query = new URLSearchParams(place.query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  history.replaceState(null, "", place.path + (text ? `?${text}` : ""));
  place.query = query;
}

/** Links lead to screens without the page being loaded anew; back and forward too. Call once. */
export function listen(): void {
  addEventListener("popstate", arrived);
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (SERVERS.test(link.pathname) || link.hash) return;
    event.preventDefault();
    go(link.pathname + link.search);
    scrollTo(0, 0);
  });
}

function arrived(): void {
  if (location.pathname !== place.path) place.steps += 1;
  place.path = location.pathname;
  place.query = new URLSearchParams(location.search);
}

/** What a screen gets from its address. */
export interface ScreenProps {
  id: string;
}

export interface Route {
  /** “/payments/:id”; what stands for `:id` is given to the screen. */
  readonly path: string;
  readonly screen: () => Promise<{ default: Component<any> }>;
}

/** The route of a path, and what stands for `:id` in it. */
export function routed(routes: readonly Route[], path: string): { route: Route; id: string } | null {
  const given = path.replace(/\/$/, "").split("/");
  for (const route of routes) {
    const parts = route.path.replace(/\/$/, "").split("/");
    if (parts.length !== given.length) continue;
    let id = "";
    const fits = parts.every((part, n) => {
      if (part !== ":id") return part === given[n];
      id = decoded(given[n] ?? "");
      return id !== "";
    });
    if (fits) return { route, id };
  }
  return null;
}

/** A part of an address; nothing, where it is none. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}
