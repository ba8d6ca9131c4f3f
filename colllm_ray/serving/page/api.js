// Requests to the server of this page, which may serve it below a path.

import { events } from "./events.js";

const KEY = "colllm_ray.key";

/** A request that was refused, or an answer that broke off. */
export class ApiError extends Error {
    constructor(message, status = null, code = null) {
        super(message);
        this.code = code;
        this.wantsKey = status === 401;
    }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;

/** Requests carry this API key from now on, until the tab is closed. */
export const useKey = (key) => sessionStorage.setItem(KEY, key);

/** The collaboration: name, members, threshold, budgets, max_model_len. */
export async function describe() {
    const response = await request("v1/colllm");
    return response.json();
}

/** The parts of an answer as they come; see `partOf`. Throws ApiError, and AbortError once `signal` says so. */
export async function* answerTo(fields, signal) {
    const body = { ...fields, stream: true, stream_options: { include_usage: true }, logprobs: true, top_logprobs: 5 };
    const response = await request("v1/chat/completions", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
        signal,
    });
    for await (const data of events(response.body)) {
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ApiError(chunk.error.message, null, chunk.error.code);
        yield partOf(chunk);
    }
    throw new ApiError("The connection broke off.");
}

/** tokens: those of the trace with their `name` and likeliest alternatives (`top`); the rest once it is known. */
function partOf({ choices: [choice], usage }) {
    const names = choice?.logprobs?.content ?? [];
    const trace = choice?.colllm?.trace ?? [];
    return {
        tokens: trace.map((token, i) => ({ ...token, name: names[i].token, top: names[i].top_logprobs })),
        finish: choice?.finish_reason ?? null,
        doubleCheck: choice?.colllm?.double_check ?? null,
        lost: choice?.colllm?.lost ?? [],
        usage: usage ?? null,
    };
}

async function request(path, { headers = {}, ...options } = {}) {
    const key = sessionStorage.getItem(KEY);
    const authorization = key === null ? {} : { authorization: `Bearer ${key}` };
    const url = new URL(path, document.baseURI);
    const response = await fetch(url, { ...options, headers: { ...headers, ...authorization } }).catch(asApiError);
    if (!response.ok) throw await refusal(response);
    return response;
}

async function refusal(response) {
    const answer = await response.json().catch(() => ({}));
    const { message = `The server answered with status ${response.status}.`, code } = answer.error ?? {};
    return new ApiError(message, response.status, code);
}

/** `fetch` fails with a TypeError where no server answers. */
function asApiError(error) {
    throw error instanceof TypeError ? new ApiError("The server cannot be reached.") : error;
}
