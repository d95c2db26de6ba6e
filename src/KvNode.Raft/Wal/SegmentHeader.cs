using System.Buffers.Binary;

namespace KvNode.Raft.Wal;

/// <summary>
/// The first sector of a segment that has been written to. It repeats what the log was just before, so that a log whose
/// older segments are gone is whole in itself.
/// </summary>
/// <remarks>
/// It goes to disk in the same write as the segment's first frame: a roll costs no sync of its own. Until then the
/// sector is all zero and the segment is "blank".
/// <code>
///   0 u64 magic    8 u32 version   12 u32 chain       16 u64 log id      24 u64 segment id   32 u64 first frame's seq
///  40 u64 previous index           48 u64 previous term                  56 u64 hard term    64 u64 hard vote
///  72 u64 commit (zero in version 1)     80 zero ...                      508 u32 CRC32C of bytes 0..507
/// </code>
/// </remarks>
/// <param name="LogId">Random, the same in all segments of one log.</param>
/// <param name="SegmentId">As in the file's name.</param>
/// <param name="FirstSequence">Of the segment's first frame.</param>
/// <param name="Before">What the log was before this segment.</param>
/// <param name="Chain">The header CRC of the last frame before this segment; 0 if there was none.</param>
internal readonly record struct SegmentHeader(
    ulong LogId, ulong SegmentId, ulong FirstSequence, LogState Before, uint Chain)
{
    public const int Bytes = WalFormat.SectorBytes;

    private const int CrcOffset = Bytes - sizeof(uint);

    /// <summary>The last entry before this segment.</summary>
    public EntryId Previous => Before.Last;

    public void Encode(Span<byte> sector)
    {
        sector[..Bytes].Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(sector, WalFormat.SegmentMagic);
        BinaryPrimitives.WriteUInt32LittleEndian(sector[8..], WalFormat.Version);
        BinaryPrimitives.WriteUInt32LittleEndian(sector[12..], Chain);
        BinaryPrimitives.WriteUInt64LittleEndian(sector[16..], LogId);
        BinaryPrimitives.WriteUInt64LittleEndian(sector[24..], SegmentId);
        BinaryPrimitives.WriteUInt64LittleEndian(sector[32..], FirstSequence);
        BinaryPrimitives.WriteUInt64LittleEndian(sector[40..], Previous.Index);
        BinaryPrimitives.WriteUInt64LittleEndian(sector[48..], Previous.Term);
        BinaryPrimitives.WriteUInt64LittleEndian(sector[56..], Before.HardState.Term);
        BinaryPrimitives.WriteUInt64LittleEndian(sector[64..], Before.HardState.Vote);
        BinaryPrimitives.WriteUInt64LittleEndian(sector[72..], Before.Commit);
        BinaryPrimitives.WriteUInt32LittleEndian(sector[CrcOffset..], Crc32C.Compute(sector[..CrcOffset]));
    }

    /// <summary>False with a reason for people when the sector is not a sound header.</summary>
    public static bool TryDecode(ReadOnlySpan<byte> sector, out SegmentHeader header, out string reason)
    {
        header = default;
        if (BinaryPrimitives.ReadUInt32LittleEndian(sector[CrcOffset..]) != Crc32C.Compute(sector[..CrcOffset]))
        {
            reason = "the segment header's checksum does not match";
            return false;
        }

        if (BinaryPrimitives.ReadUInt64LittleEndian(sector) != WalFormat.SegmentMagic)
        {
            reason = "this is not a KvNode log segment";
            return false;
        }

        var version = BinaryPrimitives.ReadUInt32LittleEndian(sector[8..]);
        if (version is < WalFormat.VersionMin or > WalFormat.Version)
        {
            reason = $"log format version {version} is not known to this program "
                + $"(it knows {WalFormat.VersionMin} to {WalFormat.Version})";
            return false;
        }

        reason = "";
        header = new SegmentHeader(
            LogId: BinaryPrimitives.ReadUInt64LittleEndian(sector[16..]),
            SegmentId: BinaryPrimitives.ReadUInt64LittleEndian(sector[24..]),
            FirstSequence: BinaryPrimitives.ReadUInt64LittleEndian(sector[32..]),
            Before: new LogState(
                Last: new EntryId(
                    Term: BinaryPrimitives.ReadUInt64LittleEndian(sector[48..]),
                    Index: BinaryPrimitives.ReadUInt64LittleEndian(sector[40..])),
                HardState: new HardState(
                    BinaryPrimitives.ReadUInt64LittleEndian(sector[56..]),
                    BinaryPrimitives.ReadUInt64LittleEndian(sector[64..])),
                Commit: BinaryPrimitives.ReadUInt64LittleEndian(sector[72..])),
            Chain: BinaryPrimitives.ReadUInt32LittleEndian(sector[12..]));
        return true;
    }
}
