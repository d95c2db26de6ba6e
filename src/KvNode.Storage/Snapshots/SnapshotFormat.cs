using System.Buffers.Binary;
using System.Text;

namespace KvNode.Storage.Snapshots;

/// <summary>A snapshot file is damaged, cut short, or of a kind this program does not read. The message is for
/// people.</summary>
public sealed class SnapshotFormatException(string message, Exception? cause = null) : IOException(message, cause);

/// <summary>What stands at the front of a <c>state.bin</c>.</summary>
/// <param name="Index">The state is exactly what the log gives up to here.</param>
/// <param name="Term">Term of that entry.</param>
/// <param name="ClockMs">The leader's clock in the last applied entry: milliseconds since 1970, 0 when none.</param>
/// <param name="Count">Records that follow.</param>
/// <param name="Members">Addresses of the cluster's members, in the order given.</param>
public sealed record SnapshotHeader(
    ulong Index, ulong Term, long ClockMs, long Count, IReadOnlyList<string> Members)
{
    /// <summary>The consensus engine's own bytes as of that entry, opaque here; empty in a file without them. At most
    /// <see cref="StoreLimits.EngineStateBytesMax"/>.</summary>
    public ReadOnlyMemory<byte> EngineState { get; init; }
}

/// <summary>
/// The numbers of <c>state.bin</c> before compression. PERSISTED: described byte by byte in this folder's README,
/// frozen by a golden test, never reused. All little-endian.
/// </summary>
internal static class SnapshotFormat
{
    /// <summary>Only this version is read or written. A reader refuses any other.</summary>
    public const uint Version = 1;

    /// <summary>Stands where a key's length would: no more records.</summary>
    public const uint EndMarker = 0xFFFF_FFFF;

    public const int KeyBytesMax = StoreLimits.KeyBytesMax;

    /// <summary>Longest value as stored: one tag byte, room for what a tag may put before the payload, the
    /// payload.</summary>
    public const uint StoredValueBytesMax = StoreLimits.ValueBytesMax + 64;

    /// <summary>Header without sections and without its checksum.</summary>
    public const int HeaderFixedBytes = 64;

    /// <summary>Whole header; small, so that a reader's memory does not depend on what a file claims.</summary>
    public const int HeaderBytesMax = 64 * 1024;

    /// <summary>End marker, count, checksum.</summary>
    public const int FooterBytes = 16;

    /// <summary>Section: member addresses, each u16 length and UTF-8.</summary>
    private const uint SectionMembers = 1;

    /// <summary>Section: the consensus engine's own bytes, at least one.</summary>
    private const uint SectionEngineState = 2;

    private const int SectionHeadBytes = 8;
    private const int ReservedBytes = 16;

    private static readonly UTF8Encoding StrictUtf8 =
        new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    public static ReadOnlySpan<byte> Magic => "KVNSTATE"u8;

    /// <exception cref="ArgumentException">The header does not fit the format.</exception>
    public static byte[] EncodeHeader(SnapshotHeader header)
    {
        if (header.Count < 0)
        {
            throw new ArgumentException("negative count", nameof(header));
        }

        if (header.EngineState.Length > StoreLimits.EngineStateBytesMax)
        {
            throw new ArgumentException(
                $"engine state of {header.EngineState.Length} bytes exceeds {StoreLimits.EngineStateBytesMax}", nameof(header));
        }

        byte[] sections = [.. EncodeMembers(header.Members), .. EncodeEngineState(header.EngineState.Span)];
        var bytes = new byte[HeaderFixedBytes + sections.Length + sizeof(uint)];
        if (bytes.Length > HeaderBytesMax)
        {
            throw new ArgumentException(
                $"snapshot header of {bytes.Length} bytes exceeds {HeaderBytesMax}", nameof(header));
        }

        Magic.CopyTo(bytes);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(8), Version);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(12), (uint)bytes.Length);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(16), header.Index);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(24), header.Term);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(32), header.ClockMs);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(40), header.Count);
        sections.CopyTo(bytes.AsSpan(HeaderFixedBytes));
        var body = bytes.AsSpan(0, bytes.Length - sizeof(uint));
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(body.Length), Crc32C.Of(body));
        return bytes;
    }

    /// <summary>Takes the header off the front of the input.</summary>
    /// <exception cref="SnapshotFormatException">Not a header of this version.</exception>
    public static SnapshotHeader ReadHeader(BufferedInput input)
    {
        Span<byte> front = stackalloc byte[16];
        input.ReadExactly(front, "the header");
        if (!front[..8].SequenceEqual(Magic))
        {
            throw new SnapshotFormatException("not a KvNode snapshot: the content does not begin with KVNSTATE");
        }

        var version = BinaryPrimitives.ReadUInt32LittleEndian(front[8..]);
        if (version != Version)
        {
            throw new SnapshotFormatException(
                $"snapshot format {version} is not known to this program, which reads {Version}");
        }

        var length = BinaryPrimitives.ReadUInt32LittleEndian(front[12..]);
        if (length is < HeaderFixedBytes + sizeof(uint) or > HeaderBytesMax)
        {
            throw new SnapshotFormatException($"corrupt header: length {length}");
        }

        var bytes = new byte[length];
        front.CopyTo(bytes);
        input.ReadExactly(bytes.AsSpan(front.Length), "the header");
        return DecodeHeader(bytes);
    }

    private static SnapshotHeader DecodeHeader(ReadOnlySpan<byte> bytes)
    {
        var body = bytes[..^sizeof(uint)];
        if (Crc32C.Of(body) != BinaryPrimitives.ReadUInt32LittleEndian(bytes[^sizeof(uint)..]))
        {
            throw new SnapshotFormatException("corrupt header: checksum mismatch");
        }

        if (body.Slice(HeaderFixedBytes - ReservedBytes, ReservedBytes).ContainsAnyExcept((byte)0))
        {
            throw new SnapshotFormatException("reserved header bytes are set: written by a newer program");
        }

        var count = BinaryPrimitives.ReadInt64LittleEndian(body[40..]);
        if (count < 0)
        {
            throw new SnapshotFormatException("corrupt header: impossible count");
        }

        DecodeSections(body[HeaderFixedBytes..], out var members, out var engineState);
        return new SnapshotHeader(
            BinaryPrimitives.ReadUInt64LittleEndian(body[16..]),
            BinaryPrimitives.ReadUInt64LittleEndian(body[24..]),
            BinaryPrimitives.ReadInt64LittleEndian(body[32..]),
            count,
            members ?? [])
        {
            EngineState = engineState,
        };
    }

    private static void DecodeSections(ReadOnlySpan<byte> bytes, out List<string>? members, out byte[]? engineState)
    {
        members = null;
        engineState = null;
        while (!bytes.IsEmpty)
        {
            if (bytes.Length < SectionHeadBytes)
            {
                throw new SnapshotFormatException("corrupt header: half a section");
            }

            var kind = BinaryPrimitives.ReadUInt32LittleEndian(bytes);
            var length = BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]);
            bytes = bytes[SectionHeadBytes..];
            if (length > bytes.Length)
            {
                throw new SnapshotFormatException("corrupt header: a section is longer than the header");
            }

            var payload = bytes[..(int)length];
            bytes = bytes[(int)length..];
            switch (kind)
            {
                case SectionMembers when members is null:
                    members = DecodeMembers(payload);
                    break;
                case SectionEngineState when engineState is null:
                    engineState = DecodeEngineState(payload);
                    break;
                default:
                    // What is not understood may matter: refused, never skipped.
                    throw new SnapshotFormatException(
                        $"unknown or repeated header section {kind}: written by a newer program?");
            }
        }
    }

    private static byte[] EncodeEngineState(ReadOnlySpan<byte> engineState)
    {
        if (engineState.IsEmpty)
        {
            return [];
        }

        var section = new byte[SectionHeadBytes + engineState.Length];
        WriteSectionHead(section, SectionEngineState);
        engineState.CopyTo(section.AsSpan(SectionHeadBytes));
        return section;
    }

    private static byte[] DecodeEngineState(ReadOnlySpan<byte> bytes) =>
        bytes.Length is > 0 and <= StoreLimits.EngineStateBytesMax
            ? bytes.ToArray()
            : throw new SnapshotFormatException($"corrupt header: engine state of {bytes.Length} bytes");

    private static void WriteSectionHead(Span<byte> section, uint kind)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(section, kind);
        BinaryPrimitives.WriteUInt32LittleEndian(section[4..], (uint)(section.Length - SectionHeadBytes));
    }

    private static byte[] EncodeMembers(IReadOnlyList<string> members)
    {
        if (members.Count == 0)
        {
            return [];
        }

        using var bytes = new MemoryStream();
        bytes.SetLength(SectionHeadBytes);
        bytes.Position = SectionHeadBytes;
        Span<byte> length = stackalloc byte[sizeof(ushort)];
        foreach (var member in members)
        {
            var text = StrictUtf8.GetBytes(member);
            if (text.Length > ushort.MaxValue)
            {
                throw new ArgumentException("member address too long", nameof(members));
            }

            BinaryPrimitives.WriteUInt16LittleEndian(length, (ushort)text.Length);
            bytes.Write(length);
            bytes.Write(text);
        }

        var section = bytes.ToArray();
        WriteSectionHead(section, SectionMembers);
        return section;
    }

    private static List<string> DecodeMembers(ReadOnlySpan<byte> bytes)
    {
        var members = new List<string>();
        while (!bytes.IsEmpty)
        {
            var length = bytes.Length < sizeof(ushort) ? int.MaxValue : BinaryPrimitives.ReadUInt16LittleEndian(bytes);
            if (length > bytes.Length - sizeof(ushort))
            {
                throw new SnapshotFormatException("corrupt header: member address cut short");
            }

            try
            {
                members.Add(StrictUtf8.GetString(bytes.Slice(sizeof(ushort), length)));
            }
            catch (DecoderFallbackException e)
            {
                throw new SnapshotFormatException("corrupt header: member address is not UTF-8", e);
            }

            bytes = bytes[(sizeof(ushort) + length)..];
        }

        return members;
    }
}
