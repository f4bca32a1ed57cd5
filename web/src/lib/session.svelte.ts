import { ChooseLanguageDocument, SignOutDocument, ViewerDocument, type ViewerQuery } from "../generated/operations";
import { appearance } from "./appearance.svelte";
import { ask, Failed, onLockedOut, speakFor } from "./graphql";
import { current, type Language } from "./language.svelte";
import { hangUp, onClosedOut, resume } from "./live.svelte";

export type Viewer = NonNullable<ViewerQuery["viewer"]>;
export type Role = Viewer["user"]["role"];

/** Whose drafts this tab keeps. */
const OWNER = "owner";

/** What the other tabs of this browser are told: who has signed in, or that somebody has left. */
const tabs = new BroadcastChannel("session");

/** Who is signed in: `undefined` until the server has said, null when nobody is. */
class Session {
  viewer = $state<Viewer | null | undefined>(undefined);
  /** Whether the viewer's session has ended by itself: the screens stay as they are, out of sight, for who signs in
   * again. */
  ended = $state(false);
  /** Whether signing out has failed. */
  stays = $state(false);
  /** Whether the server could not be reached at all. */
  unreached = $state(false);
  /** By how much the issuer's clock is ahead of this device's, in milliseconds. */
  #ahead = $state(0);

  /** Ask who is signed in. */
  async load(): Promise<void> {
    this.unreached = false;
    try {
      const { viewer } = await ask(ViewerDocument, {});
      if (viewer) this.enter(viewer, { tell: false });
      else this.viewer = null;
    } catch (error) {
      if (isSignedOut(error)) this.viewer = null;
      else this.unreached = true;
    }
  }

  /** Somebody has signed in here, or was. Whose session had ended finds the screens again; for anybody else nothing is
   * left of them. */
  enter(viewer: Viewer, { tell = true } = {}): void {
    if (tell) tabs.postMessage(viewer.user.id);
    if (sessionStorage.getItem(OWNER) !== viewer.user.id) {
      sessionStorage.clear();
      sessionStorage.setItem(OWNER, viewer.user.id);
    }
    if (this.viewer && this.viewer.user.id !== viewer.user.id) return location.reload();
    speakFor(viewer.user.id);
    this.viewer = viewer;
    appearance.wear(viewer.issuer);
    this.#ahead = Date.parse(viewer.issuer.now) - Date.now();
    if (this.ended) {
      this.ended = false;
      resume();
    }
  }

  /** Ask again what time it is, and whether one is still oneself: a tab may have been out of sight for long. */
  async look(): Promise<void> {
    if (!this.viewer || this.ended) return;
    const { viewer } = await ask(ViewerDocument, {});
    if (viewer) this.enter(viewer, { tell: false });
  }

  /** The session is over, for the server or for another tab. */
  end(): void {
    if (!this.viewer || this.ended) return;
    this.ended = true;
    speakFor(null);
    hangUp();
  }

  /** Read another language, here and in what the server says and mails. Whoever is not signed in is answered in it by
   * each request. */
  async read(language: Language): Promise<void> {
    current.language = language;
    if (this.viewer && !this.ended) {
      await ask(ChooseLanguageDocument, { input: { locale: current.locale } }).catch(() => undefined);
    }
  }

  /** Sign out, and leave nothing of this person in the tab for the next one, nor in the others. Without an answer one is
   * still signed in, and is told so. */
  async leave(): Promise<void> {
    this.stays = false;
    try {
      await ask(SignOutDocument, {});
    } catch (error) {
      if (!isSignedOut(error)) {
        this.stays = true;
        return;
      }
    }
    tabs.postMessage(null);
    this.forget();
  }

  /** Go back to the sign-in screen, with nothing that the browser's way back could show. */
  forget(): void {
    hangUp();
    speakFor(null);
    sessionStorage.clear();
    for (const name of Object.keys(localStorage)) if (name.startsWith("graphiql:")) localStorage.removeItem(name);
    this.viewer = undefined;
    location.assign("/");
  }

  /** The issuer's clock, in milliseconds since 1970. */
  now(): number {
    return Date.now() + this.#ahead;
  }
}

export const session = new Session();

/** Hear of the end of a session, and of what other tabs do. Call once. */
export function watch(): void {
  onLockedOut((code) => {
    if (code === "UNAUTHENTICATED") session.end();
    if (code === "PASSWORD_CHANGE_REQUIRED" && session.viewer && !session.viewer.user.mustChangePassword) {
      void session.load();
    }
  });
  onClosedOut(() => void closedOut());
  tabs.addEventListener("message", ({ data }: MessageEvent<string | null>) => {
    if (data === null) {
      if (session.viewer) session.forget();
    } else if (session.viewer?.user.id === data) {
      if (session.ended) void session.load();
    } else {
      location.reload();
    }
  });
  addEventListener("pageshow", (event) => {
    // What the browser has kept of a page that was left is as it was then.
    if (event.persisted) location.reload();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") void session.look().catch(() => undefined);
  });
}

let asking = false;

/** The server has closed the socket of a session that is over: another one may have taken its place, as with a new
 * password. */
async function closedOut(): Promise<void> {
  if (asking || session.ended) return;
  asking = true;
  for (let waiting = 500; ; waiting = Math.min(5_000, waiting * 2)) {
    try {
      await session.look();
      break;
    } catch {
      // Whoever has been signed out is told by the answer itself.
      if (session.ended) break;
      await new Promise((resolve) => setTimeout(resolve, waiting));
    }
  }
  asking = false;
  if (!session.ended) resume();
}

function isSignedOut(error: unknown): boolean {
  return error instanceof Failed && error.code === "UNAUTHENTICATED";
}
