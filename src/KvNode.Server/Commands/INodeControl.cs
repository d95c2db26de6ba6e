using KvNode.Raft;
using KvNode.Raft.Snapshots;
using KvNode.Storage;

namespace KvNode.Server.Commands;

/// <summary>What an admin command may ask of the node. Any thread.</summary>
internal interface INodeControl
{
    NodeStatus Status { get; }

    EngineMetrics Metrics { get; }

    /// <summary>Milliseconds since the node started.</summary>
    long UptimeMs { get; }

    /// <summary>A fresh picture of the keyspace as this node has applied it. Dispose it.</summary>
    KeyspaceView OpenView();

    StoreStatus StoreStatus { get; }

    ServerStats Stats { get; }

    IReadOnlyCollection<ClientInfo> Clients { get; }

    /// <summary>
    /// Name and value of every setting CONFIG GET knows, in Redis's spelling where Redis has it. <c>save</c> (empty: no
    /// periodic snapshots) and <c>appendonly</c> (yes: there is always a log) are among them, because redis-cli and
    /// redis-benchmark ask for them; INFO takes <c>port</c> and <c>maxclients</c> from here.
    /// </summary>
    IReadOnlyList<KeyValuePair<string, string>> Settings { get; }

    /// <summary>
    /// Writes a backup. When the newest backup on disk already holds exactly the applied state, it succeeds with that
    /// one's id and writes nothing: asking twice must not push an older backup out.
    /// </summary>
    ValueTask<AdminOutcome> SnapshotAsync();

    ValueTask<AdminOutcome> ShrinkLogAsync();

    /// <summary>The backups on this node's disk, newest first.</summary>
    IReadOnlyList<SnapshotInfo> Snapshots { get; }

    /// <inheritdoc cref="IConsensusEngine.ChangeMembershipAsync"/>
    ValueTask<AdminOutcome> ChangeMembershipAsync(MembershipChange change);

    /// <inheritdoc cref="IConsensusEngine.ReplaceMemberAsync"/>
    ValueTask<AdminOutcome> ReplaceMemberAsync(string member, string address);

    /// <inheritdoc cref="IConsensusEngine.TransferLeadershipAsync"/>
    ValueTask<AdminOutcome> TransferLeadershipAsync(string? target);

    /// <summary>Stops the node cleanly, as SIGTERM does. Returns at once.</summary>
    void RequestShutdown();
}

/// <summary>What a command may ask of, and change on, its own connection. The connection's thread.</summary>
internal interface IClientControl
{
    ClientInfo Info { get; }

    /// <summary>Sets the RESP version for this and the following replies.</summary>
    void SetProtocol(int version);

    /// <summary>Whether reads of this connection may be served from this node's own state, however old.</summary>
    void SetReadOnly(bool readOnly);

    /// <summary>Closes the connection once everything answered so far has been sent.</summary>
    void CloseAfterReply();
}

/// <summary>One connection as CLIENT LIST shows it.</summary>
internal sealed class ClientInfo
{
    public required long Id { get; init; }

    public required string RemoteAddress { get; init; }

    public required string LocalAddress { get; init; }

    public required int FileDescriptor { get; init; }

    /// <summary>Milliseconds of the monotonic clock (<see cref="Environment.TickCount64"/>).</summary>
    public required long ConnectedAtMs { get; init; }

    public string Name { get; set; } = "";

    public string LibraryName { get; set; } = "";

    public string LibraryVersion { get; set; } = "";

    public bool NoEvict { get; set; }

    public int Protocol { get; set; } = 2;

    /// <summary>Lower case, with subcommand (<c>client|list</c>).</summary>
    public string LastCommand { get; set; } = "NULL";

    public long LastActiveMs { get; set; }

    public long Commands { get; set; }

    /// <summary>Bytes received and not yet executed.</summary>
    public long QueryBufferBytes { get; set; }

    /// <summary>Bytes answered and not yet taken by the socket.</summary>
    public long OutputBufferBytes { get; set; }
}

/// <summary>Server-wide counters; written with Interlocked, read at any time.</summary>
internal sealed class ServerStats
{
    public long ConnectionsReceived;
    public long ConnectionsRejected;
    public long CommandsProcessed;
    public long NetInputBytes;
    public long NetOutputBytes;
    public long KeyspaceHits;
    public long KeyspaceMisses;
    public long ErrorReplies;
    public long ClientsClosedByLimit;
    public long ClientsClosedIdle;
}
