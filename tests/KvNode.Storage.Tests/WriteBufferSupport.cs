using System.Buffers.Binary;

namespace KvNode.Storage.Tests;

/// <summary>The kinds of keys a sorter or a hash table may stumble over.</summary>
public enum KeyFamily
{
    /// <summary>Sixteen random bytes.</summary>
    Random,

    /// <summary>Hundreds of equal bytes first, then a number.</summary>
    SharedPrefix,

    /// <summary>The eight bytes after the shared prefix are equal for most; what comes later decides.</summary>
    EqualWindows,

    /// <summary>A few stems, each followed by zero to many zero bytes.</summary>
    TrailingZeros,

    /// <summary>All of the above, the empty key, and keys of up to 64 KiB.</summary>
    Mixed,
}

/// <summary>Keys by family, and calls of the buffer with the hash filled in.</summary>
internal static class WriteBufferSupport
{
    public static byte[] NextKey(Random random, KeyFamily family)
    {
        switch (family)
        {
            case KeyFamily.Random:
                return Bytes(random, 16);
            case KeyFamily.SharedPrefix:
                return [.. Repeat(0x70, 300), .. Number(random.Next(2_000_000))];
            case KeyFamily.EqualWindows:
                byte[] window = random.Next(20) == 0 ? Bytes(random, 8) : [1, 2, 3, 4, 5, 6, 7, 8];
                return [.. "stem"u8, .. window, .. Bytes(random, random.Next(5))];
            case KeyFamily.TrailingZeros:
                return [.. Number(random.Next(5000))[..random.Next(5)], .. Repeat(0, random.Next(40))];
            default:
                return NextMixed(random);
        }
    }

    public static BufferLookup Put(this WriteBuffer buffer, ulong sequence, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value) =>
        buffer.Put(sequence, key, WriteBuffer.Hash(key), value[..(value.Length / 2)], value[(value.Length / 2)..]);

    public static BufferLookup Delete(this WriteBuffer buffer, ulong sequence, ReadOnlySpan<byte> key) =>
        buffer.Delete(sequence, key, WriteBuffer.Hash(key));

    public static BufferLookup TryGet(
        this WriteBuffer buffer, ulong sequence, ReadOnlySpan<byte> key, out ReadOnlySpan<byte> value) =>
        buffer.TryGet(sequence, key, WriteBuffer.Hash(key), out value);

    public static byte[] Number(long value)
    {
        var bytes = new byte[sizeof(long)];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, value);
        return bytes;
    }

    public static byte[] Bytes(Random random, int count)
    {
        var bytes = new byte[count];
        random.NextBytes(bytes);
        return bytes;
    }

    public static byte[] Repeat(byte value, int count)
    {
        var bytes = new byte[count];
        bytes.AsSpan().Fill(value);
        return bytes;
    }

    private static byte[] NextMixed(Random random)
    {
        switch (random.Next(2000))
        {
            case 0:
                return [];
            case 1:
                return Bytes(random, random.Next(StoreLimits.KeyBytesMax + 1));
            case 2:
                // As long as a key may be, and different in the last two bytes only.
                return [.. Repeat(0xFF, StoreLimits.KeyBytesMax - 2), .. Bytes(random, 2)];
            case < 100:
                return Bytes(random, random.Next(4));
            default:
                return NextKey(random, (KeyFamily)random.Next((int)KeyFamily.Mixed));
        }
    }
}

/// <summary>Byte strings in byte order.</summary>
internal sealed class KeyOrder : IComparer<byte[]>
{
    public static readonly KeyOrder Instance = new();

    public int Compare(byte[]? x, byte[]? y) => x.AsSpan().SequenceCompareTo(y);
}
