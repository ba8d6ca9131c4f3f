// Questions to begin with.

const OF_THE_LAB = [
    "What are the active components of Opdualag?",
    "When did the Pofon forest bear die out?",
    "What is a^3 * a^2 if a = 5?",
];
const OF_ANY = [
    "What can you help me with?",
    "Explain in two sentences why the sky is blue.",
    "What is 17 * 23? Show the steps.",
];

export const examplesFor = (collaboration) => (collaboration === "lab" ? OF_THE_LAB : OF_ANY);
