using System.Buffers.Binary;

namespace KvNode.Raft.Snapshots;

/// <summary>
/// CRC-64/XZ, which Go calls crc64.ECMA: reflected polynomial C96C5795D7870F42, all ones in and out, check value
/// 995DC9BBDF1939FA. (System.IO.Hashing.Crc64 is the unreflected ECMA-182 and does not match.) Sixteen bytes a step by
/// sixteen tables. Stateless: any thread.
/// </summary>
internal static class Crc64
{
    public const ulong Start = ulong.MaxValue;

    private const ulong Polynomial = 0xC96C_5795_D787_0F42;
    private const int Slices = 16;

    // Table[256 * n + b]: what byte b does to the register when n more bytes follow it.
    private static readonly ulong[] Table = BuildTable();

    public static ulong Append(ulong state, ReadOnlySpan<byte> bytes)
    {
        var table = Table.AsSpan(0, Slices * 256);
        while (bytes.Length >= Slices)
        {
            var low = BinaryPrimitives.ReadUInt64LittleEndian(bytes) ^ state;
            var high = BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]);
            state = Fold(table[(8 * 256)..], low) ^ Fold(table, high);
            bytes = bytes[Slices..];
        }

        foreach (var value in bytes)
        {
            state = table[(byte)(state ^ value)] ^ (state >> 8);
        }

        return state;
    }

    public static ulong Finish(ulong state) => ~state;

    private static ulong Fold(ReadOnlySpan<ulong> table, ulong word) =>
        table[(7 * 256) + (byte)word]
        ^ table[(6 * 256) + (byte)(word >> 8)]
        ^ table[(5 * 256) + (byte)(word >> 16)]
        ^ table[(4 * 256) + (byte)(word >> 24)]
        ^ table[(3 * 256) + (byte)(word >> 32)]
        ^ table[(2 * 256) + (byte)(word >> 40)]
        ^ table[(1 * 256) + (byte)(word >> 48)]
        ^ table[(byte)(word >> 56)];

    private static ulong[] BuildTable()
    {
        var table = new ulong[Slices * 256];
        for (ulong i = 0; i < 256; i++)
        {
            var crc = i;
            for (var bit = 0; bit < 8; bit++)
            {
                crc = (crc & 1) != 0 ? (crc >> 1) ^ Polynomial : crc >> 1;
            }

            table[i] = crc;
        }

        for (var i = 256; i < table.Length; i++)
        {
            table[i] = table[(byte)table[i - 256]] ^ (table[i - 256] >> 8);
        }

        return table;
    }
}
