using System.Buffers.Binary;
using KvNode.Raft.Wal;

namespace KvNode.Raft.Identity;

/// <summary>
/// What the identity file holds. PERSISTED.
/// </summary>
/// <remarks>
/// <code>
///  0 u64 magic "KVNODEID"    8 u32 version, 1    12 u32 flags: bit 0 removed, else 0
/// 16 u64 node id    24 u64 cluster id, 0 if none    32 u64 incarnation
/// 40 zero ...       60 u32 CRC32C of bytes 0..59
/// </code>
/// All little-endian; the file is exactly this long.
/// </remarks>
internal sealed record IdentityRecord(ulong NodeId, ulong ClusterId, ulong Incarnation, bool IsRemoved)
{
    public const int Bytes = 64;

    public const uint Version = 1;

    /// <summary>"KVNODEID" read as a little-endian number.</summary>
    public const ulong Magic = 0x4449_4544_4F4E_564B;

    private const int UsedBytes = 40;
    private const int CrcOffset = Bytes - sizeof(uint);
    private const uint RemovedFlag = 1;

    public void Encode(Span<byte> target)
    {
        target[..Bytes].Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(target, Magic);
        BinaryPrimitives.WriteUInt32LittleEndian(target[8..], Version);
        BinaryPrimitives.WriteUInt32LittleEndian(target[12..], IsRemoved ? RemovedFlag : 0);
        BinaryPrimitives.WriteUInt64LittleEndian(target[16..], NodeId);
        BinaryPrimitives.WriteUInt64LittleEndian(target[24..], ClusterId);
        BinaryPrimitives.WriteUInt64LittleEndian(target[32..], Incarnation);
        BinaryPrimitives.WriteUInt32LittleEndian(target[CrcOffset..], Crc32C.Compute(target[..CrcOffset]));
    }

    /// <summary>False with a reason for people when the bytes are not exactly one sound record.</summary>
    public static bool TryDecode(ReadOnlySpan<byte> source, out IdentityRecord record, out string reason)
    {
        record = null!;
        reason = "";
        if (source.Length != Bytes)
        {
            reason = source.Length < Bytes ? $"it has {source.Length} bytes instead of {Bytes}" : $"it has more than {Bytes} bytes";
            return false;
        }

        if (BinaryPrimitives.ReadUInt64LittleEndian(source) != Magic)
        {
            reason = "it is not an identity file";
            return false;
        }

        if (BinaryPrimitives.ReadUInt32LittleEndian(source[CrcOffset..]) != Crc32C.Compute(source[..CrcOffset]))
        {
            reason = "its checksum does not match";
            return false;
        }

        var version = BinaryPrimitives.ReadUInt32LittleEndian(source[8..]);
        if (version != Version)
        {
            reason = $"its format version {version} is not known to this program (it knows {Version})";
            return false;
        }

        var flags = BinaryPrimitives.ReadUInt32LittleEndian(source[12..]);
        record = new IdentityRecord(
            NodeId: BinaryPrimitives.ReadUInt64LittleEndian(source[16..]),
            ClusterId: BinaryPrimitives.ReadUInt64LittleEndian(source[24..]),
            Incarnation: BinaryPrimitives.ReadUInt64LittleEndian(source[32..]),
            IsRemoved: (flags & RemovedFlag) != 0);
        if (record.NodeId == 0 || record.Incarnation == 0 || flags > RemovedFlag
            || !WalFormat.IsZero(source[UsedBytes..CrcOffset]))
        {
            reason = "it has values that this program never writes";
            return false;
        }

        return true;
    }
}
