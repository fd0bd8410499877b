#!/usr/bin/env node
import { runExplain } from './command.js'
import { processIo } from './process-io.js'

/** `kubectl storage-tier`: kubectl finds it as `kubectl-storage_tier` on the PATH. */
process.exitCode = await runExplain('kubectl storage-tier', process.argv.slice(2), processIo())
