/**
 * Something on a host that is started and stopped: etcd, an API server, a controller, another client of etcd. Each way to run one (systemd, static pod, commands) keeps
 * this contract over the host's own. Methods reject with `service-*`, or with what the host rejects with; all are repeatable: to hold what is held changes nothing.
 */
export interface Service {
  readonly name: string;
  readonly role: ServiceRole;
  /**
   * How it is run, for people: `etcd.service`, `static pod etcd of /etc/kubernetes/manifests`, `/opt/bin/api (commands 1c2f09aa)`. Another text for another way, so that
   * a journal is not continued with it; without secrets.
   */
  readonly description: string;
  /** False: nothing keeps it from coming back, at a reboot or when somebody restarts it; `hold` rejects with `service-unholdable`. */
  readonly canHold: boolean;
  /**
   * True where one switch does both: `hold` stops it as well and `release` starts it (a static pod's manifest), so it must be held when it is to be stopped and
   * released when it is to be started. False: hold, stop, then later release, start.
   */
  readonly holdStops: boolean;
  /** True where nothing tells whether it was enabled: `release` enables it in any case. */
  readonly releaseEnables?: boolean;

  /** Only of etcd, and where it can be told to join; `restore-member` needs it. */
  readonly joining?: Joining | undefined;
  /** Only of etcd, and where it can be read while nothing runs: what etcd is started with. Rejects as `state` does; undefined where it is not said there. */
  readonly settings?: ((signal: AbortSignal) => Promise<EtcdSettings | undefined>) | undefined;

  /** What is true now. Rejects with `service-unknown` when it cannot be said whether it runs. */
  state(signal: AbortSignal): Promise<ServiceState>;
  /**
   * Keeps it from being started by anybody, persistently: neither Restart=, the kubelet nor a reboot brings it back, and who tries is told the operation's name.
   * A service that runs goes on (but see `holdStops`).
   */
  hold(operation: string, signal: AbortSignal): Promise<void>;
  /** Asks it to stop; the caller holds it first. Returns when it was asked: `state` proves that it is gone. */
  stop(signal: AbortSignal): Promise<void>;
  /** Takes the hold away, exactly: what was enabled is enabled, what was disabled is disabled. Resolves when nothing is held. */
  release(signal: AbortSignal): Promise<void>;
  /** Asks it to start and does not wait for its health: the first member of a cluster is ready only when the second one runs. `service-held` while it is held. */
  start(signal: AbortSignal): Promise<void>;
}

/** What etcd is started with, as far as a restore depends on it. How the cluster once began (--initial-cluster and its neighbours) counts for nothing while there is data. */
export interface EtcdSettings {
  /** Where it is written, such as the path of a manifest. */
  readonly from: string;
  readonly name: string | undefined;
  readonly data: EtcdPlace;
  /** Undefined: in the data directory. */
  readonly wal: EtcdPlace | undefined;
  /** Each start makes it a cluster of one. */
  readonly forceNewCluster: boolean;
}

export interface EtcdPlace {
  /** As etcd itself calls it. */
  readonly inside: string;
  /** Where that is on the host; undefined where it is gone with a container. */
  readonly onHost: string | undefined;
}

/**
 * How etcd is made a new member of a cluster that runs. It reads --initial-cluster and --initial-cluster-state only while its data directory is empty; what a site has
 * written there once began the cluster, and would begin another one.
 */
export interface Joining {
  /** For people: what is changed, and whether it is taken back. Rejects with `service-unjoinable`. */
  describe(signal: AbortSignal): Promise<string>;
  /** Makes its next start a join, while it is held. `initialCluster` is `NAME=URL` of every member, with commas. */
  prepare(operation: string, initialCluster: string, signal: AbortSignal): Promise<void>;
  /** As `start` of the service, once it was prepared and released. */
  start(initialCluster: string, signal: AbortSignal): Promise<void>;
  /** It has joined: takes back what must not stay. */
  finish(operation: string, signal: AbortSignal): Promise<void>;
  /** Takes back all that `prepare` changed, while it is held. */
  undo(operation: string, signal: AbortSignal): Promise<void>;
}

/** controllers are stopped before API servers, which are stopped before other clients of etcd, and etcd last; started in reverse. */
export const serviceRoles = ["etcd", "api-server", "controller", "client"] as const;
export type ServiceRole = (typeof serviceRoles)[number];

export interface ServiceState {
  /** Any process of it is there, or it is being started or stopped. */
  readonly running: boolean;
  /** Empty also where a command tells only whether it runs. */
  readonly pids: readonly number[];
  /** The operation that holds it; undefined: nobody does. */
  readonly heldBy: string | undefined;
  /** Whether a reboot would start it; `no` while it is held. */
  readonly boots: "yes" | "no" | "unknown";
  /** For people, such as `active (running), pid 812`. */
  readonly detail: string;
  /** The operation whose hold was begun: written, and not in force yet. */
  readonly holdBegun: string | undefined;
  /** The unit file was changed without a daemon-reload: what runs is not what would be started. */
  readonly needsReload: boolean;
  /** Starts since it was last started by hand, where that is counted: growing is a crash loop. */
  readonly restarts: number | undefined;
}
