namespace KvNode.Storage;

/// <summary>What the store knows of itself, for INFO. Numbers are of one moment, not of one instant.</summary>
public sealed record StoreStatus
{
    public required long Keys { get; init; }

    /// <summary>Index and term of the last applied entry visible to readers.</summary>
    public required ulong AppliedIndex { get; init; }
    public required ulong AppliedTerm { get; init; }

    /// <summary>Index up to which LMDB holds everything durably.</summary>
    public required ulong DurableIndex { get; init; }

    /// <summary>Bytes in the write buffer, not yet flushed.</summary>
    public required long BufferBytes { get; init; }
    public required long BufferKeys { get; init; }

    /// <summary>Bytes of data.mdb.</summary>
    public required long FileBytes { get; init; }
    public required long MapBytes { get; init; }
    public required long Flushes { get; init; }
    public required long FlushMicroseconds { get; init; }
    public required long LastFlushUnixMs { get; init; }

    /// <summary>Why the last flush failed; null when it succeeded.</summary>
    public required string? FlushError { get; init; }
    public required int Readers { get; init; }
}
