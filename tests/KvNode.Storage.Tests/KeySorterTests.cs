using KvNode.Testing;
using Xunit;

namespace KvNode.Storage.Tests;

public sealed unsafe class KeySorterTests
{
    [Theory]
    [InlineData(KeyFamily.Random)]
    [InlineData(KeyFamily.SharedPrefix)]
    [InlineData(KeyFamily.EqualWindows)]
    [InlineData(KeyFamily.TrailingZeros)]
    [InlineData(KeyFamily.Mixed)]
    public void OrderIsThatOfWholeKeysComparedByteByByte(KeyFamily family) =>
        Seeds.Run(nameof(OrderIsThatOfWholeKeysComparedByteByByte), random =>
        {
            foreach (var count in (int[])[0, 1, 2, 3, 17, 512, 4096])
            {
                var keys = new HashSet<string>();
                for (var i = 0; i < count; i++)
                {
                    keys.Add(Convert.ToHexString(WriteBufferSupport.NextKey(random, family)));
                }

                CheckSort([.. keys.Select(Convert.FromHexString)]);
            }
        });

    [Fact]
    public void KeysThatDifferOnlyInTrailingZerosAreOrderedByLength()
    {
        var keys = new byte[600][];
        for (var i = 0; i < keys.Length; i++)
        {
            keys[i] = new byte[(i * 7) % keys.Length];
        }

        CheckSort(keys);
    }

    [Fact]
    public void AKeyThatIsAllOfTheSharedPrefixComesFirst() =>
        CheckSort([[.. "prefix"u8, 0, 0], [.. "prefix"u8, 255], [.. "prefix"u8], [.. "prefix"u8, 0], [.. "prefix"u8, 0, 0, 0, 0, 0, 0, 0, 0, 1]]);

    [Fact]
    public void BytesAboveSevenBitsComeAfterThoseBelow() =>
        CheckSort([[0x80], [0x7F], [0xFF, 0xFF], [0xFF], [0x00], [0x7F, 0xFF], [0x80, 0, 0, 0, 0, 0, 0, 0, 0]]);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void SortedInputInEitherDirectionIsSorted(bool descending)
    {
        var keys = new byte[4096][];
        for (var i = 0; i < keys.Length; i++)
        {
            var number = descending ? keys.Length - i : i;
            keys[i] = [.. "user:"u8, (byte)(number >> 8), (byte)number];
        }

        CheckSort(keys);
    }

    private static void CheckSort(byte[][] keys)
    {
        using var arena = new Arena();
        var pointers = new nint[keys.Length];
        for (var i = 0; i < keys.Length; i++)
        {
            var key = (BufferKey*)arena.Allocate(sizeof(BufferKey) + keys[i].Length);
            key->Length = keys[i].Length;
            keys[i].CopyTo(new Span<byte>((byte*)key + sizeof(BufferKey), keys[i].Length));
            pointers[i] = (nint)key;
        }

        // Scratch may be longer than what is sorted, and holds what the sort before left in it.
        var windows = new ulong[keys.Length + 5];
        windows.AsSpan().Fill(0xABCD);
        KeySorter.Sort(pointers, windows);
        var expected = keys.ToArray();
        Array.Sort(expected, KeyOrder.Instance);
        for (var i = 0; i < expected.Length; i++)
        {
            Assert.True(BufferKey.Bytes((BufferKey*)pointers[i]).SequenceEqual(expected[i]), $"key {i} of {expected.Length}");
        }
    }
}
