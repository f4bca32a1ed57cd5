import { ChooseLanguageDocument, SignOutDocument, ViewerDocument, type ViewerQuery } from "../generated/operations";
import { appearance } from "./appearance.svelte";
import { ask, onLockedOut } from "./graphql";
import { current, type Language } from "./language.svelte";
import { hangUp } from "./live.svelte";

export type Viewer = NonNullable<ViewerQuery["viewer"]>;
export type Role = Viewer["user"]["role"];

/** Who is signed in: `undefined` until the server has said, null when nobody is. */
class Session {
  viewer = $state<Viewer | null | undefined>(undefined);
  /** Whether a session has ended by itself: signing in leads back to the same screen. */
  ended = $state(false);
  /** Whether signing out has failed. */
  stays = $state(false);
  /** Whether the server could not be reached at all. */
  unreached = $state(false);
  /** By how much the issuer's clock is ahead of this device's, in milliseconds. */
  #ahead = 0;

  /** Ask who is signed in. */
  async load(): Promise<void> {
    this.unreached = false;
    try {
      this.enter((await ask(ViewerDocument, {})).viewer);
    } catch (error) {
      if (error instanceof TypeError) this.unreached = true;
      else this.viewer = null;
    }
  }

  enter(viewer: Viewer | null): void {
    this.viewer = viewer;
    this.ended = false;
    if (viewer === null) return;
    appearance.wear(viewer.issuer);
    this.#ahead = Date.parse(viewer.issuer.now) - Date.now();
  }

  /** Read another language, here and in what the server says and mails. Whoever is not signed in is answered in it by
   * each request. */
  async read(language: Language): Promise<void> {
    current.language = language;
    if (this.viewer) await ask(ChooseLanguageDocument, { input: { locale: current.locale } }).catch(() => undefined);
  }

  /** Sign out, and leave nothing of this person in the tab for the next one. Without an answer one is still signed in,
   * and is told so. */
  async leave(): Promise<void> {
    this.stays = false;
    try {
      await ask(SignOutDocument, {});
    } catch {
      this.stays = true;
      return;
    }
    hangUp();
    sessionStorage.clear();
    location.assign("/");
  }

  /** The issuer's clock, in milliseconds since 1970. */
  now(): number {
    return Date.now() + this.#ahead;
  }
}

export const session = new Session();

onLockedOut((code) => {
  if (code === "UNAUTHENTICATED" && session.viewer) {
    hangUp();
    session.ended = true;
    session.viewer = null;
  }
  if (code === "PASSWORD_CHANGE_REQUIRED" && session.viewer && !session.viewer.user.mustChangePassword) {
    void session.load();
  }
});
