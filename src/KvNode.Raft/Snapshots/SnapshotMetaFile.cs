using System.Buffers;
using System.Buffers.Binary;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace KvNode.Raft.Snapshots;

/// <summary>
/// A snapshot's <c>meta.json</c>: one line of JSON and a line feed. PERSISTED.
/// </summary>
/// <remarks>
/// The first six fields are the original's, in its order and meaning: <c>ID</c>, <c>Index</c>, <c>Term</c>,
/// <c>Peers</c> (base64 of a MessagePack array of raw strings), <c>Size</c>, <c>CRC</c> (base64 of the big-endian
/// CRC-64/XZ of <c>state.bin</c> as stored). Then ours: <c>Format</c> (1), <c>Count</c>, <c>Members</c> (the peers
/// again, readable) and last <c>MetaCRC</c>: the same kind of CRC, over all bytes of this file before the comma in
/// front of its own name. A file without <c>Format</c> is read as the original's, which had no checksum of its own:
/// exactly those six fields, in any order. Everything else is refused.
/// </remarks>
internal static class SnapshotMetaFile
{
    public const string FileName = "meta.json";

    /// <summary>The only version written. 0 stands for the original's files.</summary>
    public const int FormatVersion = 1;

    /// <summary>Longer ones are not read: no cluster has that many members.</summary>
    public const int BytesMax = 1024 * 1024;

    // Go escapes less than .NET by default; with this a base64 '+' stays a '+'.
    private static readonly JsonWriterOptions WriterOptions =
        new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    [Flags]
    private enum Fields
    {
        None = 0,
        Id = 1,
        Index = 2,
        Term = 4,
        Peers = 8,
        Size = 16,
        Crc = 32,
        Original = Id | Index | Term | Peers | Size | Crc,
        Format = 64,
        Count = 128,
        Members = 256,
        MetaCrc = 512,
        Ours = Original | Format | Count | Members | MetaCrc,
    }

    public static byte[] Encode(SnapshotInfo info)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, WriterOptions))
        {
            json.WriteStartObject();
            json.WriteString("ID"u8, info.Id);
            json.WriteNumber("Index"u8, info.Position.Index);
            json.WriteNumber("Term"u8, info.Position.Term);
            json.WriteBase64String("Peers"u8, RawStringArray.Encode(info.Members));
            json.WriteNumber("Size"u8, info.Size);
            WriteCrc(json, "CRC"u8, info.Crc);
            json.WriteNumber("Format"u8, FormatVersion);
            json.WriteNumber("Count"u8, info.Count ?? 0);
            json.WriteStartArray("Members"u8);
            foreach (var member in info.Members)
            {
                json.WriteStringValue(member);
            }

            json.WriteEndArray();
            json.Flush();
            WriteCrc(json, "MetaCRC"u8, Crc64.Finish(Crc64.Append(Crc64.Start, buffer.WrittenSpan)));
            json.WriteEndObject();
        }

        buffer.Write("\n"u8);
        return buffer.WrittenSpan.ToArray();
    }

    /// <exception cref="SnapshotInvalidException">Not a meta.json of ours or of the original's, or damaged.</exception>
    public static SnapshotInfo Decode(ReadOnlySpan<byte> bytes)
    {
        var draft = new Draft();
        try
        {
            Parse(bytes, ref draft);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException)
        {
            throw new SnapshotInvalidException($"{FileName} is damaged: {e.Message}", e);
        }

        var ours = draft.Seen.HasFlag(Fields.Format);
        if (draft.Seen != (ours ? Fields.Ours : Fields.Original))
        {
            throw new SnapshotInvalidException($"{FileName} is incomplete or has fields of both formats");
        }

        var info = Accept(draft, ours);

        // Ours is written in one way only, so anything that reads the same but looks different has been altered.
        if (ours && !Encode(info).AsSpan().SequenceEqual(bytes))
        {
            throw new SnapshotInvalidException($"{FileName} is damaged: its checksum or spelling is wrong");
        }

        return info;
    }

    private static SnapshotInfo Accept(in Draft draft, bool ours)
    {
        if (ours && draft.Format != FormatVersion)
        {
            throw new SnapshotInvalidException(
                $"{FileName} has format {draft.Format}, this program reads {FormatVersion}");
        }

        if (!SnapshotId.TryParse(draft.Id!, out var id) || id.Position != new EntryId(draft.Term, draft.Index))
        {
            throw new SnapshotInvalidException($"{FileName}: ID, Index and Term do not agree");
        }

        if (draft.Size < 0 || draft.Count < 0)
        {
            throw new SnapshotInvalidException($"{FileName}: negative Size or Count");
        }

        if (!RawStringArray.TryDecode(draft.Peers!, out var peers))
        {
            throw new SnapshotInvalidException($"{FileName}: Peers cannot be read");
        }

        return new SnapshotInfo
        {
            Id = draft.Id!,
            Position = id.Position,
            UnixMs = id.UnixMs,
            Size = draft.Size,
            Crc = draft.Crc,
            Count = ours ? draft.Count : null,
            Members = peers,
            Format = ours ? draft.Format : 0,
        };
    }

    private static void Parse(ReadOnlySpan<byte> bytes, ref Draft draft)
    {
        var json = new Utf8JsonReader(bytes);
        if (!json.Read() || json.TokenType != JsonTokenType.StartObject)
        {
            throw new JsonException("not an object");
        }

        while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
        {
            ParseField(ref json, ref draft);
        }

        if (json.TokenType != JsonTokenType.EndObject || json.Read())
        {
            throw new JsonException("not one object");
        }
    }

    private static void ParseField(ref Utf8JsonReader json, ref Draft draft)
    {
        var name = json.GetString();
        _ = json.Read();
        var field = Fields.None;
        switch (name)
        {
            case "ID":
                field = Fields.Id;
                draft.Id = json.GetString() ?? throw new JsonException("ID is null");
                break;
            case "Index":
                field = Fields.Index;
                draft.Index = json.GetUInt64();
                break;
            case "Term":
                field = Fields.Term;
                draft.Term = json.GetUInt64();
                break;
            case "Peers":
                field = Fields.Peers;
                draft.Peers = json.GetBytesFromBase64();
                break;
            case "Size":
                field = Fields.Size;
                draft.Size = json.GetInt64();
                break;
            case "CRC":
                field = Fields.Crc;
                draft.Crc = ReadCrc(ref json);
                break;
            case "Format":
                field = Fields.Format;
                draft.Format = json.GetInt32();
                break;
            case "Count":
                field = Fields.Count;
                draft.Count = json.GetInt64();
                break;
            case "Members":
                // Only for people: the peers carry the same, and re-encoding proves that both agree.
                field = Fields.Members;
                json.Skip();
                break;
            case "MetaCRC":
                field = Fields.MetaCrc;
                _ = ReadCrc(ref json);
                break;
            default:
                throw new JsonException("unknown field");
        }

        if (draft.Seen.HasFlag(field))
        {
            throw new JsonException("a field is given twice");
        }

        draft.Seen |= field;
    }

    private static void WriteCrc(Utf8JsonWriter json, ReadOnlySpan<byte> name, ulong crc)
    {
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, crc);
        json.WriteBase64String(name, bytes);
    }

    private static ulong ReadCrc(ref Utf8JsonReader json)
    {
        var bytes = json.GetBytesFromBase64();
        return bytes.Length == sizeof(ulong)
            ? BinaryPrimitives.ReadUInt64BigEndian(bytes)
            : throw new JsonException("a CRC is not of eight bytes");
    }

    /// <summary>The fields as found, before they are judged.</summary>
    private struct Draft
    {
        public Fields Seen;
        public string? Id;
        public ulong Index;
        public ulong Term;
        public byte[]? Peers;
        public long Size;
        public ulong Crc;
        public int Format;
        public long Count;
    }
}
