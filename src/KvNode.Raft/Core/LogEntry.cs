namespace KvNode.Raft.Core;

/// <summary>One entry as the core keeps it.</summary>
/// <param name="Payload">Opaque to the core, except for <see cref="EntryKind.Configuration"/>. Owned by the driver, which
/// keeps it valid and unchanged for as long as the core's log holds the entry in memory.</param>
internal readonly record struct LogEntry(EntryId Id, EntryKind Kind, ReadOnlyMemory<byte> Payload)
{
    /// <summary>What the entry counts for in every byte limit: its payload and a constant for the rest.</summary>
    public int Size => Payload.Length + OverheadBytes;

    public const int OverheadBytes = 32;
}
