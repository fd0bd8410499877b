import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parse, parseAllDocuments } from 'yaml'

/*
 * What kustomize makes of manifests/, read as a stranger would: nothing of the product is used.
 */

export const MANIFESTS = join(process.cwd(), 'manifests')
/** Metacontroller's own CRDs, which manifests/metacontroller takes from the internet. */
export const METACONTROLLER_CRDS = join(process.cwd(), '../shared/specs/metacontroller-crds-v4.17.2.yaml')

// biome-ignore lint/suspicious/noExplicitAny: any manifest; each test says what it expects of it.
export type Manifest = any

/** A reason to skip, or false. */
export const noKustomize =
  findKustomize() === undefined ? 'neither kubectl nor kustomize 5 or later is installed' : false
export const noMetacontrollerCrds = existsSync(METACONTROLLER_CRDS)
  ? false
  : '../shared/specs/metacontroller-crds-v4.17.2.yaml is not here'

/** Folders of kustomizations below a folder of manifests/, relative to it. */
export const folders = (parent: string): string[] =>
  readdirSync(join(MANIFESTS, parent), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && existsSync(join(MANIFESTS, parent, entry.name, 'kustomization.yaml')))
    .map((entry) => join(parent, entry.name))
    .sort()

const rendered = new Map<string, readonly Manifest[]>()

/**
 * The objects of a kustomization, a path relative to manifests/. Where one is to be had from the internet, the copy of
 * it in ../shared takes its place; it is left out where there is no such copy. Throws with what kustomize says.
 */
export function render(folder: string): readonly Manifest[] {
  const known = rendered.get(folder)
  if (known !== undefined) return known
  const text = kustomize(join(localManifests(), folder))
  const objects = parseObjects(text)
  rendered.set(folder, objects)
  return objects
}

/** As kubectl reads it: YAML 1.1. */
export const parseObjects = (text: string): readonly Manifest[] =>
  parseAllDocuments(text, { version: '1.1' }).map((document) => document.toJS() as Manifest)

/** What kustomize prints for a folder anywhere. */
export function kustomize(folder: string): string {
  const [command, ...args] = findKustomize() as readonly string[]
  const run = spawnSync(command as string, [...args, folder], { encoding: 'utf8', maxBuffer: 64 * 1024 ** 2 })
  if (run.status !== 0) throw new Error(`${folder}: ${run.stderr || run.error}`)
  return run.stdout
}

let copy: string | undefined

/** A copy of manifests/ that needs no internet. */
export function localManifests(): string {
  if (copy !== undefined) return copy
  copy = mkdtempSync(join(tmpdir(), 'manifests-'))
  process.once('exit', () => rmSync(copy as string, { recursive: true, force: true }))
  cpSync(MANIFESTS, copy, { recursive: true })
  const path = join(copy, 'metacontroller/kustomization.yaml')
  const text = readFileSync(path, 'utf8')
  const crds = noMetacontrollerCrds ? [] : ['crds.yaml']
  if (crds.length > 0) cpSync(METACONTROLLER_CRDS, join(copy, 'metacontroller/crds.yaml'))
  const local = (parse(text).resources as string[]).filter((resource) => !resource.startsWith('https://'))
  writeFileSync(path, JSON.stringify({ ...parse(text), resources: [...crds, ...local] }))
  return copy
}

function findKustomize(): readonly string[] | undefined {
  const version = (command: string, ...args: string[]) => spawnSync(command, args, { encoding: 'utf8' }).stdout ?? ''
  const modern = (text: string) => Number(/v(\d+)\.\d+\.\d+/.exec(text)?.[1] ?? 0) >= 5
  // Its JSON names the kustomize that is built in.
  if (modern(/"kustomizeVersion": "(.*)"/.exec(version('kubectl', 'version', '--client', '-o', 'json'))?.[1] ?? '')) {
    return ['kubectl', 'kustomize']
  }
  return modern(version('kustomize', 'version')) ? ['kustomize', 'build'] : undefined
}

/** The objects of a kind, and those of a name. */
export const ofKind = (objects: readonly Manifest[], kind: string) => objects.filter((object) => object.kind === kind)
export const named = (objects: readonly Manifest[], kind: string, name: string): Manifest =>
  objects.find((object) => object.kind === kind && object.metadata.name === name)

/** Every value below an object, itself included, with its path. */
export function* walk(value: unknown, path = ''): Generator<readonly [string, unknown]> {
  yield [path, value]
  if (typeof value !== 'object' || value === null) return
  for (const [key, child] of Object.entries(value)) yield* walk(child, path === '' ? key : `${path}.${key}`)
}
