import { say } from "../lib/language.svelte";
import { session } from "../lib/session.svelte";

/** Where the list of users is, and its name: the issuer's staff sees all of them, a signatory those of its merchant. */
export function home(): { readonly href: string; readonly label: string } {
  return session.viewer?.merchant
    ? { href: "/rights", label: say(["Gestion des droits", "Rights"]) }
    : { href: "/users", label: say(["Utilisateurs", "Users"]) };
}
