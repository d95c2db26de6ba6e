using System.Buffers.Binary;

namespace KvNode.Raft.Wal;

/// <summary>
/// Numbers of the log's disk format. PERSISTED: never changed or reused; README.md in the parent folder has the layout
/// byte by byte, and a golden test holds it.
/// </summary>
internal static class WalFormat
{
    /// <summary>The grain at which a disk writes: after a power loss each sector is either old or new.</summary>
    public const int SectorBytes = 512;

    /// <summary>What is written. Version 2 added truncations, snapshot markers and the commit index.</summary>
    public const uint Version = 2;

    /// <summary>Oldest version that is read. Nothing of it has another meaning now; its headers have zeros where the
    /// commit index is.</summary>
    public const uint VersionMin = 1;

    /// <summary>"KVNODWAL" read as a little-endian number.</summary>
    public const ulong SegmentMagic = 0x4C41_5744_4F4E_564B;

    /// <summary>"KVFR".</summary>
    public const uint FrameMagic = 0x5246_564B;

    /// <summary>"END!": the last bytes of every frame's payload, so that its last sector is never all zero.</summary>
    public const uint EndMark = 0x2144_4E45;

    public const int EndMarkBytes = sizeof(uint);

    /// <summary>Where a node with this log directory keeps the segments.</summary>
    public static string Folder(string logDirectory) => Path.Combine(logDirectory, "wal");

    public const string SegmentSuffix = ".wal";

    /// <summary>A file that once was a segment and waits to be filled with zeros again.</summary>
    public const string SpareSuffix = ".spare";

    /// <summary>A new file on its way to become a segment.</summary>
    public const string DraftSuffix = ".draft";

    /// <summary>No payload of one entry is larger.</summary>
    public const int EntryBytesMax = 1 << 30;

    /// <summary>No payload of one frame is larger: one largest entry and what was gathered before it.</summary>
    public const int FramePayloadBytesMax = EntryBytesMax + (64 << 20);

    public static string SegmentName(ulong id) => id.ToString("x16") + SegmentSuffix;

    public static string SpareName(ulong id) => id.ToString("x16") + SpareSuffix;

    public static string DraftName(ulong id) => id.ToString("x16") + DraftSuffix;

    /// <summary>Takes the number out of a name made by one of the above.</summary>
    public static bool TryParseName(string name, string suffix, out ulong id)
    {
        id = 0;
        return name.Length == 16 + suffix.Length
            && name.EndsWith(suffix, StringComparison.Ordinal)
            && ulong.TryParse(name.AsSpan(0, 16), System.Globalization.NumberStyles.AllowHexSpecifier, null, out id)
            && name.StartsWith(id.ToString("x16"), StringComparison.Ordinal);
    }

    public static bool IsZero(ReadOnlySpan<byte> bytes) => !bytes.ContainsAnyExcept((byte)0);

    public static long RoundUpToSector(long bytes) => (bytes + SectorBytes - 1) & ~(long)(SectorBytes - 1);
}

/// <summary>What a record in a frame is. PERSISTED: the numbers are never reused.</summary>
internal enum RecordKind : byte
{
    /// <summary>One log entry.</summary>
    Entry = 1,

    /// <summary>Term and vote.</summary>
    HardState = 2,

    /// <summary>The entries from an index on, written before this, are void.</summary>
    Truncate = 3,

    /// <summary>The log begins anew after a received snapshot: all entries written before this are void.</summary>
    SnapshotMarker = 4,

    /// <summary>Entries up to an index are committed.</summary>
    Commit = 5,
}

/// <summary>One record to write.</summary>
/// <param name="Id">Of the entry, or the snapshot's position. For a hard state Term is the term and Index the vote; for a
/// truncation Index is the first void one and Term the term of the entry before it, which the log itself fills in; for a
/// commit index Term is 0.</param>
internal readonly record struct WalRecord(
    RecordKind Kind, EntryKind EntryKind, EntryId Id, ReadOnlyMemory<byte> Payload)
{
    /// <summary>
    /// <code>
    /// 0  u8  RecordKind    1 u8 EntryKind (0 unless an entry)    2 u16 zero    4 u32 payload bytes
    /// 8  u64 index or vote    16 u64 term    24 payload (of an entry)
    /// </code>
    /// </summary>
    public const int HeaderBytes = 24;

    public long EncodedBytes => HeaderBytes + (long)Payload.Length;

    public static WalRecord Entry(EntryId id, EntryKind kind, ReadOnlyMemory<byte> payload) =>
        new(RecordKind.Entry, kind, id, payload);

    public static WalRecord Of(HardState state) =>
        new(RecordKind.HardState, default, new EntryId(state.Term, state.Vote), default);

    /// <summary>Entries from this index on are void. It must be behind what is committed or given up.</summary>
    public static WalRecord Truncate(ulong fromIndex) =>
        new(RecordKind.Truncate, default, new EntryId(Term: 0, fromIndex), default);

    /// <summary>The state machine has taken over a snapshot: the next entry follows this position, all entries written
    /// before are void.</summary>
    public static WalRecord SnapshotMarker(EntryId position) =>
        new(RecordKind.SnapshotMarker, default, position, default);

    /// <summary>The commit index, at most the last entry's. A lower one than before has no effect.</summary>
    public static WalRecord Commit(ulong index) =>
        new(RecordKind.Commit, default, new EntryId(Term: 0, index), default);

    /// <returns>Bytes written.</returns>
    public int Encode(Span<byte> target)
    {
        target[0] = (byte)Kind;
        target[1] = (byte)EntryKind;
        BinaryPrimitives.WriteUInt16LittleEndian(target[2..], 0);
        BinaryPrimitives.WriteInt32LittleEndian(target[4..], Payload.Length);
        BinaryPrimitives.WriteUInt64LittleEndian(target[8..], Id.Index);
        BinaryPrimitives.WriteUInt64LittleEndian(target[16..], Id.Term);
        Payload.Span.CopyTo(target[HeaderBytes..]);
        return HeaderBytes + Payload.Length;
    }

    /// <summary>Takes the record at the front of <paramref name="source"/> off; false if it is not one.</summary>
    public static bool TryDecode(ref ReadOnlyMemory<byte> source, out WalRecord record)
    {
        record = default;
        var bytes = source.Span;
        if (bytes.Length < HeaderBytes || BinaryPrimitives.ReadUInt16LittleEndian(bytes[2..]) != 0)
        {
            return false;
        }

        var length = BinaryPrimitives.ReadInt32LittleEndian(bytes[4..]);
        if (length < 0 || length > bytes.Length - HeaderBytes)
        {
            return false;
        }

        var id = new EntryId(
            Term: BinaryPrimitives.ReadUInt64LittleEndian(bytes[16..]),
            Index: BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]));
        record = new WalRecord((RecordKind)bytes[0], (EntryKind)bytes[1], id, source.Slice(HeaderBytes, length));
        source = source[(HeaderBytes + length)..];
        return record.IsKnown;
    }

    /// <summary>Whether it is of a kind, and has what that kind has.</summary>
    public bool IsKnown => Kind switch
    {
        RecordKind.Entry => EntryKind is EntryKind.Normal or EntryKind.Empty or EntryKind.Configuration,
        RecordKind.HardState or RecordKind.Truncate or RecordKind.SnapshotMarker =>
            EntryKind == default && Payload.IsEmpty,
        RecordKind.Commit => EntryKind == default && Payload.IsEmpty && Id.Term == 0,
        _ => false,
    };
}
