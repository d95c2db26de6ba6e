using KvNode.Raft;

namespace KvNode.Server.Hosting;

/// <summary>How log lines are written.</summary>
internal enum LogFormat
{
    /// <summary>One line for people: time, level, event number, sentence.</summary>
    Text,

    /// <summary>One JSON object a line, with the values of the sentence as fields.</summary>
    Json,
}

/// <summary>What a node that does not lead does with writes and linearizable reads.</summary>
internal enum FollowerReply
{
    /// <summary>Brings them to the leader.</summary>
    Forward,

    /// <summary>Answers <c>-TRY host:port</c>, as the original.</summary>
    Try,

    /// <summary>Answers <c>-MOVED slot host:port</c>, as a Redis Cluster.</summary>
    Moved,
}

/// <summary>Everything a node is started with: parsed, checked (<see cref="Problem"/>) and never changed again.</summary>
internal sealed record NodeOptions
{
    /// <summary><c>--addr</c>.</summary>
    public required ListenAddress Listen { get; init; }

    /// <summary><c>--advertise</c>: where clients and other nodes reach this one.</summary>
    public required string Advertise { get; init; }

    /// <summary><c>--join</c>: a member to join; null for a node that begins a cluster, or is in one.</summary>
    public required string? Join { get; init; }

    /// <summary><c>--follower</c>.</summary>
    public required FollowerReply Follower { get; init; }

    /// <summary><c>--leader-wait</c>: how long a command waits for a leader.</summary>
    public required int LeaderWaitMs { get; init; }

    /// <summary><c>--election-timeout</c>.</summary>
    public required int ElectionMs { get; init; }

    /// <summary><c>--log-keep</c>: log kept for members that are behind.</summary>
    public required long LogKeepBytes { get; init; }

    /// <summary><c>--data</c>: the LMDB store. As typed; relative to the working directory.</summary>
    public required string DataDirectory { get; init; }

    /// <summary><c>--log-dir</c>: the write-ahead log and the snapshots. Equal to the data directory unless set.</summary>
    public required string LogDirectory { get; init; }

    /// <summary><c>--consistency</c>: how fresh a read must be.</summary>
    public required ReadLevel Consistency { get; init; }

    /// <summary><c>--durability</c>: when the log is synced.</summary>
    public required Durability Durability { get; init; }

    /// <summary><c>--max-value</c>.</summary>
    public required int MaxValueBytes { get; init; }

    /// <summary><c>--max-clients</c>.</summary>
    public required int MaxClients { get; init; }

    /// <summary><c>--timeout</c>; 0 means never.</summary>
    public required int IdleSeconds { get; init; }

    /// <summary><c>--tcp-keepalive</c>; 0 means never.</summary>
    public required int KeepAliveSeconds { get; init; }

    /// <summary><c>--query-buffer</c>.</summary>
    public required int QueryBufferBytes { get; init; }

    /// <summary><c>--client-output-buffer</c>.</summary>
    public required int OutputBufferBytes { get; init; }

    /// <summary><c>--snapshots-keep</c>.</summary>
    public required int SnapshotsKeep { get; init; }

    /// <summary><c>--write-buffer</c>.</summary>
    public required int WriteBufferBytes { get; init; }

    /// <summary><c>--wal-segment-size</c>.</summary>
    public required int WalSegmentBytes { get; init; }

    /// <summary><c>--cluster-secret</c>, <c>--tls-cert</c> and what belongs to them.</summary>
    public SecurityOptions Security { get; init; } = SecurityOptions.None;

    /// <summary><c>--log-level</c>.</summary>
    public required LogLevel LogLevel { get; init; }

    /// <summary><c>--log-format</c>.</summary>
    public required LogFormat LogFormat { get; init; }

    /// <summary>Whether two paths name one directory, however they are written; symbolic links aside.</summary>
    public static bool IsSameDirectory(string one, string other) =>
        Path.TrimEndingDirectorySeparator(Path.GetFullPath(one)) == Path.TrimEndingDirectorySeparator(Path.GetFullPath(other));

    private static bool IsSameAddress(string one, string other) => one.Equals(other, StringComparison.OrdinalIgnoreCase);

    /// <summary>Makes the directories that are missing.</summary>
    /// <exception cref="CannotCreateException">One cannot be made.</exception>
    public void CreateDirectories()
    {
        foreach (var directory in (ReadOnlySpan<string>)[DataDirectory, LogDirectory])
        {
            try
            {
                _ = Directory.CreateDirectory(directory);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new CannotCreateException(directory, e);
            }
        }
    }

    /// <summary>What is wrong between the settings, in words for the person who chose them; null when all is well.</summary>
    public string? Problem()
    {
        Limits.Check();
        var commandBytes = (long)Limits.CommandBytesAroundValue + MaxValueBytes;
        if (QueryBufferBytes < commandBytes)
        {
            return $"--query-buffer must be at least --max-value and 1mb more ({commandBytes} bytes)";
        }

        if (OutputBufferBytes < commandBytes)
        {
            return $"--client-output-buffer must be at least --max-value and 1mb more ({commandBytes} bytes)";
        }

        if (Join is { } member && (IsSameAddress(member, Advertise) || IsSameAddress(member, Listen.Reachable())))
        {
            return $"--join {member} is this node's own address: name another node that is a member, or leave --join away to begin a new cluster";
        }

        return Security.Problem();
    }
}
