import type { Text } from "../lib/language.svelte";

export interface Card {
  readonly href: string;
  readonly label: Text;
  readonly about: Text;
  /** Whether it is the signatory's alone. */
  readonly signatory: boolean;
}

/** Everything, in the order in which the manual lists it (P5), and the rights (P4). */
export const CARDS: readonly Card[] = [
  {
    href: "/account",
    label: ["Mon compte", "My account"],
    about: ["Mot de passe et appareils connectés", "Password and signed-in devices"],
    signatory: false,
  },
  {
    href: "/reimbursements",
    label: ["Mes remboursements", "My reimbursements"],
    about: ["Virements et bordereaux de règlement", "Transfers and settlement statements"],
    signatory: true,
  },
  {
    href: "/merchant",
    label: ["Mes données mises en ligne", "My details online"],
    about: ["Compte bancaire, points d’accueil et leurs adresses", "Bank account, points of sale and their addresses"],
    signatory: true,
  },
  {
    href: "/requests/new",
    label: ["Mes demandes", "My requests"],
    about: ["Commander, demander, poser une question", "Order, ask for something, ask a question"],
    signatory: false,
  },
  {
    href: "/documents",
    label: ["Ma documentation", "My documentation"],
    about: ["Guides et outils de communication", "Guides and communication material"],
    signatory: false,
  },
  {
    href: "/payments",
    label: ["Encaissement", "Payments"],
    about: ["Demander un paiement, suivre et valider les opérations", "Ask for a payment, follow and validate them"],
    signatory: false,
  },
  {
    href: "/faq",
    label: ["FAQ", "FAQ"],
    about: ["Réponses aux questions fréquentes", "Answers to frequent questions"],
    signatory: false,
  },
  {
    href: "/requests/new?about=promotion",
    label: ["Mes promotions", "My promotions"],
    about: ["Faire publier une promotion", "Have a promotion published"],
    signatory: false,
  },
  {
    href: "/rights",
    label: ["Gestion des droits", "Rights"],
    about: ["Qui peut encaisser, valider, exporter, et où", "Who may collect, validate, export, and where"],
    signatory: true,
  },
];
