import { session } from "../lib/session.svelte";
import member from "../member/area";
import type { Area } from "../routes";

const own: Area = {
  menu: [
    { href: "/offers", label: ["Paiements", "Payments"] },
    { href: "/requests/new", label: ["Nous écrire", "Write to us"] },
  ],
  routes: [
    { path: "/offers", screen: () => import("./Offers.svelte") },
    { path: "/offers/scan", screen: () => import("./Scan.svelte") },
    { path: "/offers/:id", screen: () => import("./Offer.svelte") },
    { path: "/requests/new", screen: () => import("../support/NewRequest.svelte") },
  ],
};

/** What a holder does: a member's vouchers come first, for who is one (V1). */
const area: Area = {
  get menu() {
    return session.viewer?.holder?.memberSince ? [...member.menu, ...own.menu] : own.menu;
  },
  routes: [...own.routes, ...member.routes],
};

export default area;
