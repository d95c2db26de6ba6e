namespace KvNode.Raft.Core;

/// <summary>
/// The core's log: the newest entries in memory, older ones by their terms only, the rest compacted away.
/// </summary>
/// <remarks>BeforeFirst &lt;= memory's start &lt;= Last. The driver decides what leaves memory.</remarks>
internal sealed class RaftLog
{
    /// <summary>The entry before the first one that this node still has.</summary>
    public EntryId BeforeFirst => throw new NotSupportedException();

    public EntryId Last => throw new NotSupportedException();

    /// <summary>First index whose entry is in memory; Last.Index + 1 when none is.</summary>
    public ulong FirstInMemory => throw new NotSupportedException();

    /// <summary>Bytes of what is in memory, by <see cref="LogEntry.Size"/>.</summary>
    public long BytesInMemory => throw new NotSupportedException();

    /// <summary>False when compacted away or not there yet. True for BeforeFirst.</summary>
    public bool TryTerm(ulong index, out ulong term) => throw new NotSupportedException();

    /// <summary>Entries in memory from an index on, at least one if there is one, up to these bytes. Valid until the next
    /// call into the core.</summary>
    public ReadOnlyMemory<LogEntry> Slice(ulong firstIndex, ulong lastIndex, long bytesMax) => throw new NotSupportedException();

    /// <summary>Lets entries up to an index leave memory: only what is applied and durable here.</summary>
    public void Evict(ulong throughIndex) => throw new NotSupportedException();

    /// <summary>The log on disk now begins after this index (already evicted from memory or evicted by this).</summary>
    public void Compact(ulong throughIndex) => throw new NotSupportedException();
}
