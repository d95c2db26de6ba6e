using System.Buffers.Binary;
using System.Text;

namespace KvNode.Raft.Core;

/// <summary>Grows an array by little-endian fields. For what is rare and small.</summary>
internal sealed class CoreWriter
{
    private readonly List<byte> _bytes = [];

    public void Byte(byte value) => _bytes.Add(value);

    public void Number(ulong value)
    {
        Span<byte> field = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(field, value);
        _bytes.AddRange(field);
    }

    public void Count(int value)
    {
        Span<byte> field = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(field, (uint)value);
        _bytes.AddRange(field);
    }

    public void Ids(ReadOnlySpan<ulong> ids)
    {
        Count(ids.Length);
        foreach (var id in ids)
        {
            Number(id);
        }
    }

    /// <exception cref="ArgumentException">Longer than 65535 bytes in UTF-8.</exception>
    public void Text(string value)
    {
        var utf8 = Encoding.UTF8.GetBytes(value);
        if (utf8.Length > ushort.MaxValue)
        {
            throw new ArgumentException("an address of more than 65535 bytes", nameof(value));
        }

        Span<byte> field = stackalloc byte[sizeof(ushort)];
        BinaryPrimitives.WriteUInt16LittleEndian(field, (ushort)utf8.Length);
        _bytes.AddRange(field);
        _bytes.AddRange(utf8);
    }

    public byte[] ToArray() => [.. _bytes];
}

/// <summary>Reads what <see cref="CoreWriter"/> wrote.</summary>
/// <remarks>Every method throws <see cref="FormatException"/> when the bytes end too early.</remarks>
internal ref struct CoreReader(ReadOnlySpan<byte> bytes)
{
    private static readonly UTF8Encoding Utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private ReadOnlySpan<byte> _rest = bytes;

    public byte Byte() => Take(1)[0];

    public ulong Number() => BinaryPrimitives.ReadUInt64LittleEndian(Take(sizeof(ulong)));

    /// <summary>A count of things that take at least this many bytes each, so that it cannot be absurd.</summary>
    public int Count(int bytesEach)
    {
        var count = BinaryPrimitives.ReadUInt32LittleEndian(Take(sizeof(uint)));
        Expect(count <= (uint)(_rest.Length / bytesEach), "a count beyond the end");
        return (int)count;
    }

    /// <summary>Ascending, none twice, none 0.</summary>
    public ulong[] Ids()
    {
        var ids = new ulong[Count(sizeof(ulong))];
        ulong before = 0;
        foreach (ref var id in ids.AsSpan())
        {
            id = Number();
            Expect(id > before, "node ids out of order");
            before = id;
        }

        return ids;
    }

    public string Text()
    {
        var utf8 = Take(BinaryPrimitives.ReadUInt16LittleEndian(Take(sizeof(ushort))));
        try
        {
            return Utf8.GetString(utf8);
        }
        catch (ArgumentException notText)
        {
            throw new FormatException("an address that is not UTF-8", notText);
        }
    }

    public readonly void End() => Expect(_rest.IsEmpty, "bytes after the end");

    public readonly void Expect(bool isSo, string otherwise)
    {
        if (!isSo)
        {
            throw new FormatException(otherwise);
        }
    }

    private ReadOnlySpan<byte> Take(int count)
    {
        Expect(_rest.Length >= count, "the end comes too early");
        var taken = _rest[..count];
        _rest = _rest[count..];
        return taken;
    }
}
