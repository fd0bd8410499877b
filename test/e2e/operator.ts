import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url))

export interface OperatorOptions {
  readonly args: readonly string[]
  readonly kubeconfig: string
  /** Where its log goes; appended to. */
  readonly log: string
}

/** The operator in a process of its own, as its image starts it. */
export class Operator {
  readonly #options: OperatorOptions
  #child: ChildProcess | undefined

  constructor(options: OperatorOptions) {
    this.#options = options
  }

  /** Settles when it serves hooks; tells at which port. */
  async start(): Promise<number> {
    const { args, kubeconfig, log } = this.#options
    const child = spawn(process.execPath, ['--enable-source-maps', MAIN, '--log-json', ...args], {
      env: { PATH: process.env['PATH'] ?? '', KUBECONFIG: kubeconfig },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    this.#child = child
    const lines = createInterface({ input: child.stdout })
    child.stdout.pipe(createWriteStream(log, { flags: 'a' }))
    return new Promise((resolve, reject) => {
      child.once('exit', (code) => reject(new Error(`the operator exited with ${code}; see ${log}`)))
      lines.on('line', (line) => {
        const { msg, hooks } = JSON.parse(line)
        if (msg === 'ready') resolve(Number(hooks.split(':').at(-1)))
      })
    })
  }

  /** SIGKILL: as when its node is lost. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  /** SIGTERM: it finishes what it is doing. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM')
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill(signal)
    await exited
  }
}
