using System.Buffers.Binary;

namespace KvNode.Storage;

/// <summary>
/// What LMDB holds for us and where: database names, the records of <c>sys</c>, and how a user key of any length becomes
/// LMDB keys of at most 511 bytes in the same order.
/// </summary>
/// <remarks>
/// <para>PERSISTED: every number and name here is on users' disks, described byte by byte in the README, and frozen by a
/// golden test. Change means a new format version and a way to read the old one.</para>
/// <para>Integers are big-endian everywhere: bucket ids need it to sort, the rest follows.</para>
/// <para>Key grammar, K being the user's key:</para>
/// <code>
/// K = ""             sys "empty"            -> value
/// |K| in 1..510      d   K                  -> value
/// |K| >= 511         d   K[0..511)          -> bucket id     (a physical key of 511 bytes is always such a link)
///                    rest R = K[511..]
/// |R| in 0..502      x   id R               -> value
/// |R| >= 503         x   id R[0..503)       -> bucket id     (8 + 503 = 511: again a link)
///                    R = R[503..], and so on
/// </code>
/// <para>Since a link has the greatest length, and everything in its bucket begins with the link's bytes, byte order of
/// user keys is the order of the walk that goes into a bucket where it meets the link.</para>
/// </remarks>
internal static class Layout
{
    /// <summary>PERSISTED in sys "format": a store as it is created.</summary>
    public const uint FormatVersionPlain = 1;

    /// <summary>PERSISTED in sys "format", from the moment the store holds something of a cluster (engine state, or an
    /// installed snapshot), which a program that only knows version 1 would leave behind while the data moves on.</summary>
    public const uint FormatVersionCluster = 2;

    /// <summary>LMDB's limit, compiled into it. A physical key of this length is a link to a bucket.</summary>
    public const int LinkBytes = 511;

    /// <summary>Longest user key stored as it is.</summary>
    public const int ShortKeyBytesMax = LinkBytes - 1;

    public const int BucketIdBytes = 8;

    /// <summary>Key bytes a link in a bucket consumes.</summary>
    public const int ChunkBytes = LinkBytes - BucketIdBytes;

    /// <summary>Id of the first bucket; 0 is never one.</summary>
    public const ulong FirstBucketId = 1;

    /// <summary>Format, state and the empty key.</summary>
    public static ReadOnlySpan<byte> SystemDatabase => "sys"u8;

    /// <summary>User keys.</summary>
    public static ReadOnlySpan<byte> KeyDatabase => "d"u8;

    /// <summary>The buckets of long keys.</summary>
    public static ReadOnlySpan<byte> BucketDatabase => "x"u8;

    /// <summary>Items of collections. Created and empty in this format version.</summary>
    public static ReadOnlySpan<byte> CollectionDatabase => "c"u8;

    /// <summary>Expiry index. Created and empty in this format version.</summary>
    public static ReadOnlySpan<byte> ExpiryDatabase => "e"u8;

    public static ReadOnlySpan<byte> FormatKey => "format"u8;
    public static ReadOnlySpan<byte> StateKey => "state"u8;
    public static ReadOnlySpan<byte> EmptyKey => "empty"u8;
    public static ReadOnlySpan<byte> EngineKey => "engine"u8;

    /// <summary>"KVND", then the version.</summary>
    public const int FormatBytes = 8;

    /// <summary>applied index 8, applied term 8, count 8, next bucket id 8, clock ms 8, next item id 8, installed index 8,
    /// installed term 8.</summary>
    public const int StateBytes = 64;

    public static ReadOnlySpan<byte> FormatMagic => "KVND"u8;

    public static void WriteFormat(Span<byte> target, uint version)
    {
        FormatMagic.CopyTo(target);
        BinaryPrimitives.WriteUInt32BigEndian(target[4..], version);
    }

    /// <summary>False when the record is not a format record at all.</summary>
    public static bool TryReadFormat(ReadOnlySpan<byte> record, out uint version)
    {
        version = 0;
        return record.Length == FormatBytes && record.StartsWith(FormatMagic) &&
            BinaryPrimitives.TryReadUInt32BigEndian(record[4..], out version);
    }

    public static void WriteState(Span<byte> target, in DiskState state, ulong nextBucketId)
    {
        target[..StateBytes].Clear();
        BinaryPrimitives.WriteUInt64BigEndian(target, state.AppliedIndex);
        BinaryPrimitives.WriteUInt64BigEndian(target[8..], state.AppliedTerm);
        BinaryPrimitives.WriteInt64BigEndian(target[16..], state.Count);
        BinaryPrimitives.WriteUInt64BigEndian(target[24..], nextBucketId);
        BinaryPrimitives.WriteInt64BigEndian(target[32..], state.ClockMs);
        BinaryPrimitives.WriteUInt64BigEndian(target[40..], state.NextItemId);
        BinaryPrimitives.WriteUInt64BigEndian(target[48..], state.InstalledIndex);
        BinaryPrimitives.WriteUInt64BigEndian(target[56..], state.InstalledTerm);
    }

    /// <summary>False when the record has not the length of a state record.</summary>
    public static bool TryReadState(ReadOnlySpan<byte> record, out DiskState state, out ulong nextBucketId)
    {
        state = default;
        nextBucketId = 0;
        if (record.Length != StateBytes)
        {
            return false;
        }

        state = new DiskState
        {
            AppliedIndex = BinaryPrimitives.ReadUInt64BigEndian(record),
            AppliedTerm = BinaryPrimitives.ReadUInt64BigEndian(record[8..]),
            Count = BinaryPrimitives.ReadInt64BigEndian(record[16..]),
            ClockMs = BinaryPrimitives.ReadInt64BigEndian(record[32..]),
            NextItemId = BinaryPrimitives.ReadUInt64BigEndian(record[40..]),
            InstalledIndex = BinaryPrimitives.ReadUInt64BigEndian(record[48..]),
            InstalledTerm = BinaryPrimitives.ReadUInt64BigEndian(record[56..]),
        };
        nextBucketId = BinaryPrimitives.ReadUInt64BigEndian(record[24..]);
        return true;
    }

    /// <summary>The part of a user key that is its record in <c>d</c>: all of it, or the link's bytes.</summary>
    public static ReadOnlySpan<byte> FirstPhysical(ReadOnlySpan<byte> key) =>
        key.Length <= ShortKeyBytesMax ? key : key[..LinkBytes];

    /// <summary>Writes the physical key of <paramref name="rest"/> in a bucket: id and rest, or id and first chunk.</summary>
    /// <param name="buffer">At least <see cref="LinkBytes"/>.</param>
    /// <returns>The written part of the buffer.</returns>
    public static ReadOnlySpan<byte> BucketPhysical(Span<byte> buffer, ulong id, ReadOnlySpan<byte> rest)
    {
        var taken = Math.Min(rest.Length, ChunkBytes);
        BinaryPrimitives.WriteUInt64BigEndian(buffer, id);
        rest[..taken].CopyTo(buffer[BucketIdBytes..]);
        return buffer[..(BucketIdBytes + taken)];
    }

    public static bool IsLink(ReadOnlySpan<byte> physical) => physical.Length == LinkBytes;

    public static ulong ReadBucketId(ReadOnlySpan<byte> bytes) => BinaryPrimitives.ReadUInt64BigEndian(bytes);
}

/// <summary>What the store says of its content, committed in the same transaction as the content.</summary>
internal readonly record struct DiskState
{
    /// <summary>Index of the last log entry whose effect is in the data.</summary>
    public ulong AppliedIndex { get; init; }

    /// <summary>Term of that entry.</summary>
    public ulong AppliedTerm { get; init; }

    /// <summary>Number of user keys.</summary>
    public long Count { get; init; }

    /// <summary>The state machine's clock, milliseconds since 1970: greatest leader time applied.</summary>
    public long ClockMs { get; init; }

    /// <summary>Next id of a collection or expiry record; 0 as long as none exists.</summary>
    public ulong NextItemId { get; init; }

    /// <summary>Index of the last snapshot that was installed as a whole; 0 as long as none was.</summary>
    public ulong InstalledIndex { get; init; }

    /// <summary>Term of that entry.</summary>
    public ulong InstalledTerm { get; init; }
}
