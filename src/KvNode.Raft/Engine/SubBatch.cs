using System.Buffers.Binary;

namespace KvNode.Raft.Engine;

/// <summary>
/// One node's batch inside an entry: a leader merges its own and those forwarded to it. Who it came from and its number there
/// make it execute once, however often it reached the log.
/// </summary>
/// <param name="Origin">Node id of whose clients wait for it. PERSISTED.</param>
/// <param name="Incarnation">Which start of that node. PERSISTED.</param>
/// <param name="Sequence">Ascending within an incarnation, from 1. PERSISTED.</param>
internal readonly record struct SubBatch(
    ulong Origin, ulong Incarnation, ulong Sequence, ReadOnlyMemory<byte> Payload)
{
    /// <summary>
    /// <code>0 u64 origin   8 u64 incarnation   16 u64 sequence   24 u32 payload bytes   28 payload</code>
    /// Little-endian; one after another fill the entry's payload.
    /// </summary>
    public const int HeaderBytes = 28;

    public int EncodedBytes => HeaderBytes + Payload.Length;

    public int Encode(Span<byte> target)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(target, Origin);
        BinaryPrimitives.WriteUInt64LittleEndian(target[8..], Incarnation);
        BinaryPrimitives.WriteUInt64LittleEndian(target[16..], Sequence);
        BinaryPrimitives.WriteInt32LittleEndian(target[24..], Payload.Length);
        Payload.Span.CopyTo(target[HeaderBytes..]);
        return EncodedBytes;
    }

    /// <summary>Takes the next batch off an entry's payload; false at its end.</summary>
    public static bool TryRead(ref ReadOnlyMemory<byte> payload, out SubBatch batch)
    {
        if (payload.IsEmpty)
        {
            batch = default;
            return false;
        }

        var span = payload.Span;
        Invariant.Check(span.Length >= HeaderBytes);
        var bytes = BinaryPrimitives.ReadInt32LittleEndian(span[24..]);
        Invariant.Check(bytes >= 0 && bytes <= span.Length - HeaderBytes);
        batch = new SubBatch(
            BinaryPrimitives.ReadUInt64LittleEndian(span),
            BinaryPrimitives.ReadUInt64LittleEndian(span[8..]),
            BinaryPrimitives.ReadUInt64LittleEndian(span[16..]),
            payload.Slice(HeaderBytes, bytes));
        payload = payload[(HeaderBytes + bytes)..];
        return true;
    }
}
