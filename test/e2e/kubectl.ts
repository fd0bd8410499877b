import { spawn } from 'node:child_process'
import { setTimeout } from 'node:timers/promises'
import type { Manifest } from '../manifests/render.js'

export interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs kubectl with the current kubeconfig, whatever comes of it. */
export function tryKubectl(args: readonly string[], input?: string): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn('kubectl', args)
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text
    })
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, stdout, stderr }))
    child.stdin.end(input ?? '')
  })
}

/** What kubectl prints; rejects with what it complains about. */
export async function kubectl(args: readonly string[], input?: string): Promise<string> {
  const { code, stdout, stderr } = await tryKubectl(args, input)
  if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr}`)
  return stdout
}

export const apply = (objects: readonly Manifest[]): Promise<string> =>
  kubectl(
    ['apply', '--server-side', '--force-conflicts', '-f', '-'],
    JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }),
  )

export const get = async (...args: readonly string[]): Promise<Manifest> =>
  JSON.parse(await kubectl(['get', ...args, '-o', 'json']))

/** The objects of a kind, by name. */
export async function list(resource: string, ...args: readonly string[]): Promise<Map<string, Manifest>> {
  const { items } = await get(resource, ...args)
  return new Map(items.map((item: Manifest) => [item.metadata.name, item]))
}

const ASK_AGAIN_MS = 500

/** Asks until there is an answer. Rejects, with `what` was waited for, after so many minutes without one. */
export async function eventually<T>(what: string, minutes: number, ask: () => Promise<T | undefined>): Promise<T> {
  for (let tries = (minutes * 60_000) / ASK_AGAIN_MS; tries > 0; tries--) {
    const answer = await ask()
    if (answer !== undefined) return answer
    await setTimeout(ASK_AGAIN_MS)
  }
  throw new Error(`waited ${minutes} minutes for ${what}`)
}
