import type { Text } from "../lib/language.svelte";

export interface Card {
  readonly href: string;
  readonly label: Text;
  readonly about: Text;
  /** Whether it is the signatory's alone. */
  readonly signatory: boolean;
}

export const CARDS: readonly Card[] = [
  {
    href: "/payments",
    label: ["Encaissement", "Payments"],
    about: ["Demander un paiement, suivre et valider les opérations", "Ask for a payment, follow and validate them"],
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
    label: ["Mon établissement", "My business"],
    about: ["Compte bancaire et points d’accueil", "Bank account and points of sale"],
    signatory: true,
  },
  {
    href: "/rights",
    label: ["Gestion des droits", "Rights"],
    about: ["Qui peut encaisser, valider, exporter, et où", "Who may collect, validate, export, and where"],
    signatory: true,
  },
  {
    href: "/account",
    label: ["Mon compte", "My account"],
    about: ["Mot de passe et appareils connectés", "Password and signed-in devices"],
    signatory: false,
  },
];
