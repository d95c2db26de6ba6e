using System.Buffers.Binary;
using System.Text;

namespace KvNode.Raft.Snapshots;

/// <summary>
/// A MessagePack array of raw strings, as the original's <c>Peers</c> field holds it: the array and string heads of the
/// old specification (fix, 16 and 32 bits). Reading also takes the later string and binary heads.
/// </summary>
internal static class RawStringArray
{
    private const byte FixArray = 0x90;
    private const byte FixRaw = 0xA0;
    private const byte Binary8 = 0xC4;
    private const byte Binary16 = 0xC5;
    private const byte Binary32 = 0xC6;
    private const byte String8 = 0xD9;
    private const byte Raw16 = 0xDA;
    private const byte Raw32 = 0xDB;
    private const byte Array16 = 0xDC;
    private const byte Array32 = 0xDD;

    private static readonly UTF8Encoding StrictUtf8 =
        new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    public static byte[] Encode(IReadOnlyList<string> values)
    {
        using var bytes = new MemoryStream();
        WriteHead(bytes, values.Count, FixArray, 16, Array16, Array32);
        foreach (var value in values)
        {
            var text = StrictUtf8.GetBytes(value);
            WriteHead(bytes, text.Length, FixRaw, 32, Raw16, Raw32);
            bytes.Write(text);
        }

        return bytes.ToArray();
    }

    /// <returns>False when the bytes are not exactly one such array.</returns>
    public static bool TryDecode(ReadOnlySpan<byte> bytes, out List<string> values)
    {
        values = [];
        if (!TryReadHead(ref bytes, array: true, out var count))
        {
            return false;
        }

        // Each element takes at least a byte, so the loop ends with the bytes, whatever count claims.
        for (uint i = 0; i < count; i++)
        {
            if (!TryReadHead(ref bytes, array: false, out var length) || length > bytes.Length)
            {
                return false;
            }

            try
            {
                values.Add(StrictUtf8.GetString(bytes[..(int)length]));
            }
            catch (DecoderFallbackException)
            {
                return false;
            }

            bytes = bytes[(int)length..];
        }

        return bytes.IsEmpty;
    }

    private static void WriteHead(MemoryStream bytes, int value, byte fix, int fixLimit, byte head16, byte head32)
    {
        Span<byte> head = stackalloc byte[5];
        if (value < fixLimit)
        {
            bytes.WriteByte((byte)(fix | value));
        }
        else if (value <= ushort.MaxValue)
        {
            head[0] = head16;
            BinaryPrimitives.WriteUInt16BigEndian(head[1..], (ushort)value);
            bytes.Write(head[..3]);
        }
        else
        {
            head[0] = head32;
            BinaryPrimitives.WriteInt32BigEndian(head[1..], value);
            bytes.Write(head);
        }
    }

    private static bool TryReadHead(ref ReadOnlySpan<byte> bytes, bool array, out uint value)
    {
        value = 0;
        if (bytes.IsEmpty)
        {
            return false;
        }

        var head = bytes[0];
        bytes = bytes[1..];
        if (array ? (head & 0xF0) == FixArray : (head & 0xE0) == FixRaw)
        {
            value = (uint)head & (array ? 0x0Fu : 0x1Fu);
            return true;
        }

        var width = (array, head) switch
        {
            (true, Array16) or (false, Raw16 or Binary16) => 2,
            (true, Array32) or (false, Raw32 or Binary32) => 4,
            (false, String8 or Binary8) => 1,
            _ => 0,
        };
        if (width == 0 || bytes.Length < width)
        {
            return false;
        }

        foreach (var part in bytes[..width])
        {
            value = (value << 8) | part;
        }

        bytes = bytes[width..];
        return true;
    }
}
