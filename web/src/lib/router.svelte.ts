import { tick, type Component } from "svelte";

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

/** What the browser's history keeps with a screen: the path of the one before it; and, once it was left, how many rows of
 * its list were there, and how far down it was scrolled, in pixels. */
interface Visit {
  readonly from?: string;
  readonly rows?: number;
  readonly top?: number;
}

/** More rows than these come again only when asked for. */
const MOST_ROWS = 500;

/** How many rows of the present screen's list are there. */
let rows = 0;
/** How far down the screen is to be scrolled once its list is there, for who has come back to it. */
let owed = visit().top;
/** The path of the screen from which the visitor has come back. */
let left = "";

/** Go to a screen of ours. */
export function go(address: string, { replace = false } = {}): void {
  if (replace) {
    history.replaceState({ from: visit().from }, "", address);
  } else {
    keepVisit();
    history.pushState({ from: location.pathname } satisfies Visit, "", address);
  }
  owed = undefined;
  arrived();
}

/** Go back to a screen as it was left, for who has come from there; otherwise go there. */
export function goBack(address: string): void {
  if (visit().from === new URL(address, location.origin).pathname) history.back();
  else go(address);
}

function visit(): Visit {
  return (history.state as Visit | null) ?? {};
}

function keepVisit(): void {
  const [before, now] = [visit(), { rows: Math.min(rows, MOST_ROWS), top: scrollY }];
  // Browsers allow so many changes a minute.
  if (owed === undefined && (before.rows !== now.rows || before.top !== now.top))
    history.replaceState({ ...before, ...now } satisfies Visit, "");
}

/** How many rows a list begins with, at least: as many as there were when its screen was left. */
export function rowsLeft(): number {
  return visit().rows ?? 0;
}

/** A list has so many rows now. When it has just begun, the screen is scrolled to where it was left, and the link that led
 * away has the focus. */
export async function keepRows(count: number, { begins }: { begins: boolean }): Promise<void> {
  rows = Math.max(rows, count);
  if (begins) await tick();
  if (begins && owed !== undefined) {
    scrollTo(0, owed);
    const link = [...document.querySelectorAll<HTMLAnchorElement>("main a")].find(({ pathname }) => pathname === left);
    if (document.activeElement?.matches("body, h1")) link?.focus({ preventScroll: true });
    // Another list of the screen may have to come before it is long enough.
    if (scrollY >= owed - 1) owed = undefined;
  }
  keepVisit();
}

/** Change the query alone: the same screen, another filter. Empty values leave it. */
export function filter(changes: Readonly<Record<string, string | null>>): void {
  const query = new URLSearchParams(place.query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  rows = 0;
  history.replaceState({ from: visit().from }, "", place.path + (text ? `?${text}` : ""));
  place.query = query;
}

/** Links lead to screens without the page being loaded anew; back and forward too. Call once. */
export function listen(): void {
  addEventListener("popstate", () => {
    [owed, left] = [visit().top, place.path];
    arrived();
  });
  addEventListener("scrollend", keepVisit);
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (SERVERS.test(link.pathname) || link.hash) return;
    event.preventDefault();
    if (link.matches("[data-back]")) return goBack(link.pathname + link.search);
    go(link.pathname + link.search);
    scrollTo(0, 0);
  });
}

function arrived(): void {
  rows = 0;
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
