using System.Buffers.Binary;

namespace KvNode.Raft.Wal;

/// <summary>
/// The front of a frame. A frame is one group commit: written by one pwrite, made durable by one sync.
/// </summary>
/// <remarks>
/// <code>
///   0 u32 magic    4 u8 version, 3 zero    8 u64 log id    16 u64 segment id    24 u64 seq    32 u64 durable seq
///  40 u64 mask    48 u32 chain    52 u32 payload bytes    56 u32 records    60 u32 head CRC
///  64 u32 place in the segment, in sectors    68 u32 header CRC32C of bytes 0..67
///  72 u32[n] CRC32C of each sector that follows the head, unused ones 0      then the payload, then zeros
/// </code>
/// The <i>head</i> is the sectors that hold the header and the table, with what part of the payload comes to lie in
/// them; the head CRC covers it from byte 72 on. The header names its log, segment and place, so that bytes which
/// belong elsewhere are never taken for a frame.
/// </remarks>
/// <param name="Sequence">1 for the log's first frame, then one more each.</param>
/// <param name="DurableSequence">All frames up to this one were known to be synced when this one was written. It tells
/// recovery which broken frames a power loss can explain.</param>
/// <param name="Mask">Xor-ed into each 8 bytes of the payload; 0 nearly always. See <see cref="FrameEncoder"/>.</param>
/// <param name="Chain">The header CRC of the frame before; 0 for the first.</param>
internal readonly record struct FrameHeader(
    ulong LogId,
    ulong SegmentId,
    ulong Sequence,
    ulong DurableSequence,
    ulong Mask,
    uint Chain,
    int PayloadBytes,
    int RecordCount,
    uint HeadCrc,
    uint Place)
{
    public const int Bytes = 72;

    private const int CrcOffset = 68;

    /// <returns>The header's CRC: the next frame's chain.</returns>
    public uint Encode(Span<byte> target)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(target, WalFormat.FrameMagic);
        BinaryPrimitives.WriteUInt32LittleEndian(target[4..], WalFormat.Version);
        BinaryPrimitives.WriteUInt64LittleEndian(target[8..], LogId);
        BinaryPrimitives.WriteUInt64LittleEndian(target[16..], SegmentId);
        BinaryPrimitives.WriteUInt64LittleEndian(target[24..], Sequence);
        BinaryPrimitives.WriteUInt64LittleEndian(target[32..], DurableSequence);
        BinaryPrimitives.WriteUInt64LittleEndian(target[40..], Mask);
        BinaryPrimitives.WriteUInt32LittleEndian(target[48..], Chain);
        BinaryPrimitives.WriteInt32LittleEndian(target[52..], PayloadBytes);
        BinaryPrimitives.WriteInt32LittleEndian(target[56..], RecordCount);
        BinaryPrimitives.WriteUInt32LittleEndian(target[60..], HeadCrc);
        BinaryPrimitives.WriteUInt32LittleEndian(target[64..], Place);
        var crc = Crc32C.Compute(target[..CrcOffset]);
        BinaryPrimitives.WriteUInt32LittleEndian(target[CrcOffset..], crc);
        return crc;
    }

    /// <summary>
    /// False unless the bytes are a header that this program wrote. Whether it belongs where it was found is for the
    /// caller to check.
    /// </summary>
    public static bool TryDecode(ReadOnlySpan<byte> source, out FrameHeader header, out uint crc)
    {
        header = default;
        crc = BinaryPrimitives.ReadUInt32LittleEndian(source[CrcOffset..]);
        if (BinaryPrimitives.ReadUInt32LittleEndian(source) != WalFormat.FrameMagic
            || BinaryPrimitives.ReadUInt32LittleEndian(source[4..]) is < WalFormat.VersionMin or > WalFormat.Version
            || crc != Crc32C.Compute(source[..CrcOffset]))
        {
            return false;
        }

        header = new FrameHeader(
            LogId: BinaryPrimitives.ReadUInt64LittleEndian(source[8..]),
            SegmentId: BinaryPrimitives.ReadUInt64LittleEndian(source[16..]),
            Sequence: BinaryPrimitives.ReadUInt64LittleEndian(source[24..]),
            DurableSequence: BinaryPrimitives.ReadUInt64LittleEndian(source[32..]),
            Mask: BinaryPrimitives.ReadUInt64LittleEndian(source[40..]),
            Chain: BinaryPrimitives.ReadUInt32LittleEndian(source[48..]),
            PayloadBytes: BinaryPrimitives.ReadInt32LittleEndian(source[52..]),
            RecordCount: BinaryPrimitives.ReadInt32LittleEndian(source[56..]),
            HeadCrc: BinaryPrimitives.ReadUInt32LittleEndian(source[60..]),
            Place: BinaryPrimitives.ReadUInt32LittleEndian(source[64..]));
        return header.PayloadBytes is >= WalFormat.EndMarkBytes and <= WalFormat.FramePayloadBytesMax;
    }
}

/// <summary>Where the parts of a frame lie; follows from the payload's size alone.</summary>
/// <param name="TableEntries">Slots in the table, at least one for each sector after the head.</param>
/// <param name="HeadSectors">Sectors that hold header and table.</param>
/// <param name="Sectors">All sectors of the frame.</param>
internal readonly record struct FrameLayout(int TableEntries, int HeadSectors, int Sectors)
{
    public int PayloadOffset => FrameHeader.Bytes + (TableEntries * sizeof(uint));

    public int HeadBytes => HeadSectors * WalFormat.SectorBytes;

    public int Bytes => Sectors * WalFormat.SectorBytes;

    /// <summary>Sectors that the table covers.</summary>
    public int BodySectors => Sectors - HeadSectors;

    public static FrameLayout For(int payloadBytes)
    {
        // The table's own size moves the payload, which may need one more slot: the smallest table that suffices.
        for (var entries = Math.Max(0, (payloadBytes / WalFormat.SectorBytes) - 1); ; entries++)
        {
            var front = FrameHeader.Bytes + (entries * sizeof(uint));
            var head = SectorsIn(front);
            var all = SectorsIn((long)front + payloadBytes);
            if (all - head <= entries)
            {
                return new FrameLayout(entries, head, all);
            }
        }
    }

    private static int SectorsIn(long bytes) => (int)(WalFormat.RoundUpToSector(bytes) / WalFormat.SectorBytes);
}
