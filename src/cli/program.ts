import { Command, CommanderError } from "commander";
import { Fault } from "../faults.ts";
import { verifyLevels } from "../snapshot/verify.ts";
import { adoptCommand, type AdoptOptions } from "./adopt.ts";
import { backupCommand, type BackupOptions } from "./backup.ts";
import { checkCommand, nagios, unknownLine, type CheckOptions } from "./check.ts";
import { cleanupCommand, type CleanupOptions } from "./cleanup.ts";
import { copyCommand, type StoreOptions } from "./copy.ts";
import { configCheckCommand, configSchemaCommand, configShowCommand } from "./config.ts";
import { doctorCommand, type DoctorOptions } from "./doctor.ts";
import { exitStatusesCommand } from "./exit-statuses.ts";
import { expireCommand, type ExpireOptions } from "./expire.ts";
import { fetchCommand, type FetchOptions } from "./fetch.ts";
import { importCommand, type ImportOptions } from "./import.ts";
import { listCommand } from "./list.ts";
import {
  lockShowCommand,
  pauseCommand,
  resumeCommand,
  unlockCommand,
  type PauseOptions,
  type UnlockOptions,
} from "./lock.ts";
import { pinCommand, unpinCommand, type PinOptions, type UnpinOptions } from "./pin.ts";
import { restoreMemberCommand, type RestoreMemberOptions } from "./restore-member.ts";
import { restoreCommand, restoreStatusCommand, type RestoreOptions } from "./restore.ts";
import { runCommand } from "./run.ts";
import { scheduleExplainCommand } from "./schedule.ts";
import { showCommand } from "./show.ts";
import { statusCommand } from "./status.ts";
import type { CommonOptions, Environment } from "./tools.ts";
import { verifyCommand, type VerifyOptions } from "./verify.ts";

const defaultConfigPath = "/etc/etcd-lifeboat/config.yaml";

/** Parses the arguments after the program's name and runs the command; resolves with its exit status, rejects with a Fault. */
export async function runProgram(environment: Environment, argv: readonly string[]): Promise<number> {
  let status = 0;
  const program = buildProgram(environment, (result) => {
    status = result;
  });
  try {
    await program.parseAsync([...argv], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return 0;
    // Commander has printed usage trouble by itself where it knew better; the message is enough here.
    const message = error.code === "commander.help" ? "no command given" : error.message.replace(/^error: /, "");
    const fault = new Fault("usage", message, {
      hint: "run: etcd-lifeboat --help",
      cause: error,
    });
    // Status 2 means CRITICAL to whoever runs checks.
    if (argv[0] !== "check") throw fault;
    environment.console.out(unknownLine(fault));
    return nagios.unknown;
  }
  return status;
}

/** The tree of commands; also what the help page and the documentation tests walk. */
export function buildProgram(environment: Environment, onStatus: (status: number) => void): Command {
  const { console } = environment;
  const program = new Command("etcd-lifeboat")
    .description("Keeps an etcd cluster restorable: scheduled, sealed, verified backups.")
    .version(environment.version, "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .configureOutput({
      writeOut: console.out,
      // Errors come back as CommanderError and are printed once, by main.
      writeErr: () => undefined,
      getOutHelpWidth: () => 100,
    })
    .exitOverride()
    .showHelpAfterError(false)
    .addHelpText(
      "before",
      examples(
        "etcd-lifeboat backup --label before-upgrade    take a backup now",
        "etcd-lifeboat list                             what there is",
        "etcd-lifeboat verify latest --level bytes      read every stored byte again",
        "etcd-lifeboat fetch latest --output snapshot.db    a plain file for etcdutl snapshot restore",
        "etcd-lifeboat run                              the daemon: backups by schedule, metrics",
      ),
    )
    .addHelpText("after", `\nExit statuses: etcd-lifeboat exit-statuses`);

  const command = (parent: Command, usage: string, description: string, ...shown: readonly string[]): Command =>
    parent
      .command(usage)
      .description(description)
      .exitOverride()
      .addHelpText("before", examples(...shown));
  const withConfig = (added: Command): Command =>
    added.option("-c, --config <file>", "configuration file", console.env["LIFEBOAT_CONFIG"] ?? defaultConfigPath);
  const withJson = (added: Command): Command => added.option("--json", "print one JSON document on stdout");
  const common = (added: Command): Command => withJson(withConfig(added));
  const withStore = (added: Command): Command =>
    common(added).option("--store <copy>", "use this copy (repository.copies) instead of the first store");

  withConfig(
    command(
      program,
      "run",
      "Run the daemon: backups by schedule, metrics and health pages.",
      "etcd-lifeboat run --config /etc/etcd-lifeboat/config.yaml",
    ),
  ).action(async (options: CommonOptions) => onStatus(await runCommand(environment, options)));

  common(
    command(
      program,
      "backup",
      "Take one backup now.",
      "etcd-lifeboat backup --label before-upgrade",
      "etcd-lifeboat backup --dry-run",
      "etcd-lifeboat backup --schedule hourly --if-due",
    ),
  )
    .option("--label <text>", "a word for people, stored in the manifest")
    .option("--dry-run", "say what would be done, and write nothing")
    .option("--schedule <name>", "with --if-due: for a slot of this schedule")
    .option("--if-due", "only when the schedule's latest slot has no backup yet; for timers and CronJobs")
    .action(async (options: BackupOptions) => onStatus(await backupCommand(environment, options)));

  withStore(
    command(program, "list", "List the backups, oldest first.", "etcd-lifeboat list", "etcd-lifeboat list --json"),
  ).action(async (options: StoreOptions) => onStatus(await listCommand(environment, options)));

  withStore(
    command(
      program,
      "show <backup>",
      "Show one backup: an id from list, LINEAGE/ID, or latest.",
      "etcd-lifeboat show latest",
    ),
  ).action(async (backup: string, options: StoreOptions) => onStatus(await showCommand(environment, backup, options)));

  withStore(
    command(
      program,
      "verify [backups...]",
      "Verify backups; all of them when none is named.",
      "etcd-lifeboat verify latest --level bytes",
      "etcd-lifeboat verify --level deep",
      "etcd-lifeboat verify latest --level boot --tools /opt/etcd",
      "etcd-lifeboat verify latest --live",
    ),
  )
    .option("--level <level>", `how deep: ${verifyLevels.join(", ")}`, "bytes")
    .option("--tools <directory>", "where etcd's own programs are, for the level boot; then PATH")
    .option("--live", "also ask the members of the cluster again")
    .action(async (backups: string[], options: VerifyOptions) =>
      onStatus(await verifyCommand(environment, backups, options)),
    );

  withStore(
    command(
      program,
      "fetch <backup>",
      "Fetch a backup as a plain .db file with its seal.",
      "etcd-lifeboat fetch latest --output snapshot.db && etcdutl snapshot restore snapshot.db --data-dir new",
    ),
  )
    .requiredOption("-o, --output <file>", "file to create; an existing one is never replaced")
    .action(async (backup: string, options: FetchOptions) =>
      onStatus(await fetchCommand(environment, backup, options)),
    );

  common(
    command(
      program,
      "copy",
      "Bring the copies of the repository up to date now; run does it by itself.",
      "etcd-lifeboat copy",
      "etcd-lifeboat copy --store offsite",
    ),
  )
    .option("--store <copy>", "only this one of repository.copies")
    .action(async (options: StoreOptions) => onStatus(await copyCommand(environment, options)));

  common(
    command(
      program,
      "import <file>",
      "Make a file of etcdctl snapshot save a backup, in a lineage of its own.",
      "etcd-lifeboat import /root/before-migration.db --label before-migration",
    ),
  )
    .option("--label <text>", "a word for people, stored in the manifest")
    .action(async (file: string, options: ImportOptions) => onStatus(await importCommand(environment, file, options)));

  common(
    command(
      program,
      "adopt",
      "Accept that the cluster has a new history (restored, or made anew).",
      "etcd-lifeboat adopt",
      "etcd-lifeboat adopt --confirm-cluster prod",
    ),
  )
    .option("--confirm-cluster <name>", "the cluster's name, typed")
    .action(async (options: AdoptOptions) => onStatus(await adoptCommand(environment, options)));

  common(command(program, "status", "Look at the cluster and the repository.", "etcd-lifeboat status")).action(
    async (options: CommonOptions) => onStatus(await statusCommand(environment, options)),
  );

  withConfig(
    command(
      program,
      "check [schedules...]",
      "One line and a status of 0 to 3 for Nagios, Icinga and the like: backups, proofs, lock, members.",
      "etcd-lifeboat check",
      "etcd-lifeboat check hourly --warning 2h --critical 4h",
    ),
  )
    .option("--warning <duration>", "age of a schedule's newest backup; default: 1.5 intervals and 10 minutes")
    .option("--critical <duration>", "the same; default: 2 intervals and 10 minutes")
    .option("--proof-warning <duration>", "age of its newest proven backup; default: 4 intervals and an hour")
    .option("--proof-critical <duration>", "the same; default: never")
    .option("--timeout <duration>", "UNKNOWN when there is no answer within this time", "50s")
    .action(async (schedules: string[], options: CheckOptions) =>
      onStatus(await checkCommand(environment, schedules, options)),
    );

  common(
    command(
      program,
      "doctor",
      "Examine etcd, the store and this host: what is wrong, and what helps beside each.",
      "etcd-lifeboat doctor",
      "etcd-lifeboat doctor --read-only --json",
    ),
  )
    .option("--read-only", "leave out what writes to the store, which is below a prefix of its own and removed again")
    .action(async (options: DoctorOptions) => onStatus(await doctorCommand(environment, options)));

  common(
    command(
      program,
      "pause",
      "Stop backups, expiry and scans of every daemon until resume.",
      'etcd-lifeboat pause --reason "disks are replaced until noon"',
    ),
  )
    .option("--reason <text>", "why, for those who wonder")
    .action(async (options: PauseOptions) => onStatus(await pauseCommand(environment, options)));

  common(
    command(program, "resume", "End a pause; the daemons catch up with one backup each.", "etcd-lifeboat resume"),
  ).action(async (options: CommonOptions) => onStatus(await resumeCommand(environment, options)));

  const schedule = command(program, "schedule", "Look at the schedules.", "etcd-lifeboat schedule explain");
  common(
    command(
      schedule,
      "explain [name]",
      "Show when a schedule, or each of them, runs next: in its time zone, and around the days on which clocks change.",
      "etcd-lifeboat schedule explain",
      "etcd-lifeboat schedule explain hourly",
    ),
  ).action(async (name: string | undefined, options: CommonOptions) =>
    onStatus(await scheduleExplainCommand(environment, name, options)),
  );

  const lock = command(program, "lock", "Look at the operation lock.", "etcd-lifeboat lock show");
  common(
    command(
      lock,
      "show",
      "Show who holds the lock, whether they live, and whether there is a pause.",
      "etcd-lifeboat lock show",
    ),
  ).action(async (options: CommonOptions) => onStatus(await lockShowCommand(environment, options)));

  common(
    command(
      program,
      "unlock",
      "Take the lock from whoever holds it, when nothing works on the cluster any more.",
      "etcd-lifeboat unlock",
      "etcd-lifeboat unlock --yes --confirm-cluster prod",
    ),
  )
    .option("--yes", "do not ask; needs --confirm-cluster")
    .option("--confirm-cluster <name>", "the cluster's name, typed")
    .action(async (options: UnlockOptions) => onStatus(await unlockCommand(environment, options)));

  common(
    command(
      program,
      "pin <backup>",
      "Keep a backup, whatever retention says.",
      'etcd-lifeboat pin latest --reason "before the migration"',
    ),
  )
    .requiredOption("--reason <text>", "why, for those who come after")
    .action(async (backup: string, options: PinOptions) => onStatus(await pinCommand(environment, backup, options)));

  common(
    command(
      program,
      "unpin <backup>",
      "Leave a pinned backup to retention again.",
      "etcd-lifeboat unpin 20261121T100150Z.slot.hourly",
    ),
  )
    .option("--reason <text>", "why")
    .action(async (backup: string, options: UnpinOptions) =>
      onStatus(await unpinCommand(environment, backup, options)),
    );

  withStore(
    command(
      program,
      "expire [imported...]",
      "Show which backups retention keeps and why, and remove the others with --yes; or imported files by name.",
      "etcd-lifeboat expire",
      "etcd-lifeboat expire --yes",
      "etcd-lifeboat expire 20261121T100150Z.demand.01JQ000000000000000000000A --yes",
    ),
  )
    .option("-y, --yes", "remove what goes")
    .action(async (names: string[], options: ExpireOptions) =>
      onStatus(await expireCommand(environment, names, options)),
    );

  const restore = common(
    command(
      program,
      "restore",
      "Bring the whole cluster back to a backup: plan, confirm, API servers stopped first and started last.",
      "etcd-lifeboat restore --plan",
      "etcd-lifeboat restore --backup 20261121T100150Z.slot.hourly",
      "etcd-lifeboat restore --from-member etcd2",
      "etcd-lifeboat restore --file /root/last.db --without-repository",
      "etcd-lifeboat restore --as-new --config staging.yaml",
      "etcd-lifeboat restore --yes --confirm-cluster prod",
      "etcd-lifeboat restore --resume",
      "etcd-lifeboat restore --rollback",
    ),
  )
    .option("--backup <id>", "the backup to go back to, or latest; the newest proven one when nothing is said")
    .option("--file <file>", "a file of etcdctl snapshot save or etcd-lifeboat fetch instead")
    .option("--from-member <name>", "when quorum is lost: what this member still holds instead, alive or stopped")
    .option(
      "--without-repository",
      "with --file or --from-member: ask no store, and tell it nothing; on the day it is gone",
    )
    .option("--as-new", "onto another cluster, which the configuration describes; the backup's own is not touched")
    .option("--plan", "look at everything, say what would be done, and touch nothing")
    .option("--yes", "do not ask; needs --confirm-cluster")
    .option("--confirm-cluster <name>", "the cluster's name, typed")
    .option("--resume [operation]", "go on with a restore that stopped")
    .option("--rollback [operation]", "take back a restore that stopped: the old data returns")
    .option("--take-over", "go on although the machine that it was begun on may still be at work")
    .option("--snapshot-username <name>", "who is let in by the backup's own users, where today's user is not")
    .option("--snapshot-password-file <file>", "with --snapshot-username: the file that holds the password")
    .option("--accept-unproven", "restore a backup that no member was compared with")
    .option("--accept-reboot-risk", "go on although a reboot could start a service too early")
    .option("--quiet-seconds <n>", "how long no client may be heard before etcd is stopped", "25")
    .option("--etcd-minor <minor>", "the etcd that is installed, where nothing tells")
    .option("--builder <name>", "who writes the data directories")
    .option("--tools <directory>", "where etcd's own programs are; then PATH")
    .action(async (options: RestoreOptions) => onStatus(await restoreCommand(environment, options)));
  // What follows `status` belongs to it, though both know --config.
  program.enablePositionalOptions();
  restore.enablePositionalOptions();
  common(
    command(
      restore,
      "status [operation]",
      "Show how every restore of this machine stands, and what other machines left unfinished; or one of them.",
      "etcd-lifeboat restore status",
    ),
  ).action(async (id: string | undefined, options: CommonOptions) =>
    onStatus(await restoreStatusCommand(environment, id, options)),
  );

  common(
    command(
      program,
      "restore-member [member]",
      "Join one member anew that lost its data, while the others have quorum: out, its data aside, and in again.",
      "etcd-lifeboat restore-member etcd2 --plan",
      "etcd-lifeboat restore-member etcd2 --yes --confirm-cluster prod",
      "etcd-lifeboat restore-member --resume",
    ),
  )
    .option("--plan", "look at everything, say what would be done, and touch nothing")
    .option("--yes", "do not ask; needs --confirm-cluster")
    .option("--confirm-cluster <name>", "the cluster's name, typed")
    .option("--resume [operation]", "go on with one that stopped")
    .option("--rollback [operation]", "take back one that stopped, until the member was removed")
    .option("--take-over", "go on although the machine that it was begun on may still be at work")
    .option("--accept-reboot-risk", "go on although a reboot could start etcd too early")
    .action(async (member: string | undefined, options: RestoreMemberOptions) =>
      onStatus(await restoreMemberCommand(environment, member, options)),
    );

  common(
    command(
      program,
      "cleanup [operation]",
      "Remove the old data that restores moved aside, once what took its place is whole and backed up.",
      "etcd-lifeboat cleanup --plan",
      "etcd-lifeboat cleanup --yes --confirm-cluster prod",
    ),
  )
    .option("--plan", "list what would go and what stands against it, and touch nothing")
    .option("--yes", "do not ask; needs --confirm-cluster")
    .option("--confirm-cluster <name>", "the cluster's name, typed")
    .action(async (operation: string | undefined, options: CleanupOptions) =>
      onStatus(await cleanupCommand(environment, operation, options)),
    );

  const config = command(program, "config", "Check and show the configuration.", "etcd-lifeboat config check");
  common(
    command(config, "check", "Check the configuration and every file it names.", "etcd-lifeboat config check"),
  ).action((options: CommonOptions) => onStatus(configCheckCommand(environment, options)));
  common(
    command(config, "show", "Show every effective value and where it comes from.", "etcd-lifeboat config show"),
  ).action((options: CommonOptions) => onStatus(configShowCommand(environment, options)));
  command(config, "schema", "Print the JSON schema of the configuration.", "etcd-lifeboat config schema").action(() =>
    onStatus(configSchemaCommand(environment)),
  );

  withJson(
    command(
      program,
      "exit-statuses",
      "Print the exit statuses and the faults behind them.",
      "etcd-lifeboat exit-statuses",
    ),
  ).action((options: { readonly json?: boolean }) => onStatus(exitStatusesCommand(environment, options)));
  return program;
}

function examples(...lines: readonly string[]): string {
  return `Examples:\n${lines.map((line) => `  ${line}\n`).join("")}`;
}
