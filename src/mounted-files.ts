import { type FSWatcher, watch } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Clock } from './clock.js'

/** A file that cannot be used. `message` is a sentence that names it and repeats nothing of what it holds. */
export class BadFile extends Error {
  override readonly name = 'BadFile'
}

/** What a file holds. */
export interface FileText {
  readonly path: string
  readonly text: string
}

/** One value made from files that may be replaced while we run, as those of a mounted Secret are. */
export interface MountedFiles<T> {
  /** Made from the newest files that could be used. */
  current(): T
  stop(): void
}

export interface MountedFilesOptions<T, P extends readonly string[]> {
  readonly paths: P
  /** Makes the value from the files, in the order of their paths. Throws BadFile where it cannot be made. */
  readonly read: (files: { readonly [K in keyof P]: FileText }) => T
  readonly clock: Clock
  /** Called once for each change: the value that is in use from now on, or why the one before stays in use. */
  readonly onChange: (change: Change<T>) => void
}

export type Change<T> =
  | { readonly kind: 'loaded'; readonly value: T }
  | { readonly kind: 'kept'; readonly problem: string }

/** Looked at this often whatever the watch says: it may miss changes, or not be available at all. */
const POLL_MS = 30_000
/** Several files are seldom written in one go. */
const SETTLE_MS = 200

/**
 * Reads the files, and again whenever something in their folders changes: a mounted Secret is replaced as a whole, by
 * turning the link `..data`, which a watch of the files themselves would not see. Rejects with BadFile when the files
 * cannot be used the first time; later ones that cannot leave the value as it was.
 */
export async function mountedFiles<T, const P extends readonly string[]>(
  options: MountedFilesOptions<T, P>,
): Promise<MountedFiles<T>> {
  const { paths, clock, onChange } = options
  const read = options.read as (files: readonly FileText[]) => T
  let files = await filesAt(paths)
  let value = read(files)
  let problem: string | undefined
  let stopped = false
  let looking = Promise.resolve()
  let cancelPoll = () => {}
  let cancelLook = () => {}

  const look = async (): Promise<void> => {
    try {
      const newest = await filesAt(paths)
      const same = newest.every(({ text }, index) => text === files[index]?.text)
      if (stopped || (same && problem === undefined)) return
      value = read(newest)
      files = newest
      problem = undefined
      onChange({ kind: 'loaded', value })
    } catch (error) {
      if (!(error instanceof BadFile)) throw error
      if (stopped || error.message === problem) return
      problem = error.message
      onChange({ kind: 'kept', problem })
    }
  }
  const lookNext = () => {
    looking = looking.then(look)
  }
  const poll = () => {
    cancelPoll = clock.after(POLL_MS, () => {
      lookNext()
      poll()
    })
  }
  const watchers = [...new Set(paths.map((path) => dirname(path)))].flatMap((folder) =>
    watchFolder(folder, () => {
      cancelLook()
      cancelLook = clock.after(SETTLE_MS, lookNext)
    }),
  )
  poll()

  return {
    current: () => value,
    stop: () => {
      stopped = true
      cancelPoll()
      cancelLook()
      for (const watcher of watchers) watcher.close()
    },
  }
}

/** One after the other, so that of several that are missing it is always the first that is named. */
async function filesAt(paths: readonly string[]): Promise<readonly FileText[]> {
  const files: FileText[] = []
  for (const path of paths) {
    try {
      files.push({ path, text: await readFile(path, 'utf8') })
    } catch (cause) {
      const { code = '' } = cause as NodeJS.ErrnoException
      throw new BadFile(`cannot read ${path}: ${PROBLEMS[code] ?? code}`, { cause })
    }
  }
  return files
}

const PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  EACCES: 'permission denied',
  EISDIR: 'it is a folder',
}

/** Nothing where the folder cannot be watched, as when there are no watches left: the poll remains. */
function watchFolder(folder: string, onEvent: () => void): FSWatcher[] {
  try {
    const watcher = watch(folder, { persistent: false }, onEvent)
    watcher.on('error', () => watcher.close())
    return [watcher]
  } catch {
    return []
  }
}
