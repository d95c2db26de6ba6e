namespace KvNode.Storage;

/// <summary>How a store is opened.</summary>
public sealed record StoreOptions
{
    /// <summary>
    /// Size, in bytes, at which the write buffer is sealed and flushed to LMDB. Up to two such generations exist at
    /// once. The larger, the fewer pages LMDB writes per SET; the smaller, the less there is to replay after a crash.
    /// </summary>
    public long WriteBufferBytes { get; init; } = 128L * 1024 * 1024;

    /// <summary>
    /// A buffer that is not full is flushed after this long. Nothing is at stake but memory and the time to replay the
    /// log: durability is the log's. A small buffer flushed often costs far more, for each flush of scattered keys
    /// rewrites about a page per key.
    /// </summary>
    public TimeSpan FlushInterval { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>How long to wait after a flush that found the disk full before it is tried again.</summary>
    public TimeSpan RetryInterval { get; init; } = TimeSpan.FromMilliseconds(500);

    /// <summary>First size of LMDB's map in bytes; where the address space has no room for it, less.</summary>
    public long MapBytes { get; init; } = 1L << 40;

    /// <summary>
    /// Called with an index before state up to it is made durable: the log must be durable up to there first, so that
    /// the store is never ahead of the log. May block. Null when every applied entry is already durable in the log.
    /// </summary>
    public Action<ulong>? EnsureLogDurable { get; set; }

    /// <summary>Told once when the flush thread cannot go on (a failed sync, a damaged file). The process must end.</summary>
    public required Action<Exception> Fatal { get; init; }
}
