import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * A folder laid out as the kubelet mounts a Secret: every file is a link through `..data`, itself a link to the folder
 * of the current version, and a new version comes in by turning that one link.
 */
export class SecretVolume {
  readonly #root: string
  #version = 0

  constructor(root: string, files: Readonly<Record<string, string>>) {
    this.#root = root
    mkdirSync(root, { recursive: true })
    this.replace(files)
    for (const name of Object.keys(files)) symlinkSync(join('..data', name), this.path(name))
  }

  path(name: string): string {
    return join(this.#root, name)
  }

  replace(files: Readonly<Record<string, string>>): void {
    const before = `..${this.#version++}`
    const version = `..${this.#version}`
    mkdirSync(this.path(version))
    for (const [name, text] of Object.entries(files)) writeFileSync(this.path(`${version}/${name}`), text)
    symlinkSync(version, this.path('..data_tmp'))
    renameSync(this.path('..data_tmp'), this.path('..data'))
    rmSync(this.path(before), { recursive: true, force: true })
  }
}
