using System.Buffers.Binary;

namespace KvNode.Testing;

/// <summary>Damages bytes in the ways that files and messages are damaged, by a seeded generator.</summary>
public static class Mutation
{
    private static readonly byte[] Edges = [0x00, 0xFF, 0x7F, 0x80];

    private static readonly ulong[] Lengths = [0, 1, 0x7FFF_FFFF, 0xFFFF_FFFF, 1UL << 63, ulong.MaxValue];

    /// <summary>A damaged copy: one to three of flip a bit, set a byte, cut, double, drop or move a chunk, set a
    /// length.</summary>
    public static byte[] Of(Random random, byte[] original)
    {
        var bytes = original.ToArray();
        for (var left = random.Next(1, 4); left > 0; left--)
        {
            bytes = Once(random, bytes);
        }

        return bytes;
    }

    private static byte[] Once(Random random, byte[] bytes)
    {
        if (bytes.Length == 0)
        {
            return [Edges[random.Next(Edges.Length)]];
        }

        var at = random.Next(bytes.Length);
        var length = random.Next(1, Math.Min(64, bytes.Length - at) + 1);
        switch (random.Next(7))
        {
            case 0:
                bytes[at] ^= (byte)(1 << random.Next(8));
                return bytes;
            case 1:
                bytes[at] = Edges[random.Next(Edges.Length)];
                return bytes;
            case 2:
                return bytes[..at];
            case 3:
                return [.. bytes[..at], .. bytes[at..(at + length)], .. bytes[at..]];
            case 4:
                return [.. bytes[..at], .. bytes[(at + length)..]];
            case 5:
                var to = random.Next(bytes.Length - length + 1);
                bytes.AsSpan(at, length).ToArray().CopyTo(bytes.AsSpan(to));
                return bytes;
            default:
                SetLength(random, bytes.AsSpan(at));
                return bytes;
        }
    }

    private static void SetLength(Random random, Span<byte> at)
    {
        var wide = random.Next(2) == 0;
        if (at.Length < (wide ? sizeof(ulong) : sizeof(uint)))
        {
            at[0]++;
        }
        else if (wide)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(at, Lengths[random.Next(Lengths.Length)]);
        }
        else
        {
            var old = BinaryPrimitives.ReadUInt32LittleEndian(at);
            var value =
                random.Next(3) == 0 ? (uint)Lengths[random.Next(Lengths.Length)] : old + (uint)random.Next(-1, 2);
            BinaryPrimitives.WriteUInt32LittleEndian(at, value);
        }
    }
}
