using System.Buffers.Binary;
using Xunit;

namespace KvNode.Storage.Tests;

/// <summary>The hash table when hashes are bad, and the hash when keys are.</summary>
public sealed class WriteBufferHashTests
{
    [Theory]
    [InlineData(0UL)]
    [InlineData(ulong.MaxValue)]
    [InlineData(0xFFFF_0000_0000_0FFFUL)]
    public void KeysOfOneHashAreToldApart(ulong hash)
    {
        // As many as the first table holds before it grows: all in one chain, which wraps at the table's end.
        const int Count = 2048;
        var buffer = new WriteBuffer(clearsBelow: false);
        for (var i = 0; i < Count; i++)
        {
            Assert.Equal(BufferLookup.Missing, buffer.Put(1, WriteBufferSupport.Number(i), hash, "v"u8, WriteBufferSupport.Number(i)));
        }

        for (var i = 0; i < Count; i++)
        {
            Assert.Equal(BufferLookup.Value, buffer.TryGet(1, WriteBufferSupport.Number(i), hash, out var value));
            Assert.Equal(i, BinaryPrimitives.ReadInt64LittleEndian(value[1..]));
            Assert.Equal(BufferLookup.Missing, buffer.TryGet(1, WriteBufferSupport.Number(i + Count), hash, out _));
        }

        Assert.Equal(Count, buffer.Keys);
        buffer.Release();
    }

    [Fact]
    public void KeysOfOneTagAreStillRightAfterTheTableGrew()
    {
        // The table keeps 16 bits of a hash: look for keys that have the same ones.
        var buffer = new WriteBuffer(clearsBelow: false);
        var twins = new List<byte[]>();
        var tag = WriteBuffer.Hash(WriteBufferSupport.Number(0)) >> 48;
        for (var i = 0L; i < 4_000_000; i++)
        {
            var key = WriteBufferSupport.Number(i);
            if (WriteBuffer.Hash(key) >> 48 == tag)
            {
                twins.Add(key);
                buffer.Put(1, key, key);
            }
            else if (i % 100 == 0)
            {
                buffer.Put(1, key, key);
            }
        }

        Assert.InRange(twins.Count, 20, 200);
        Assert.True(buffer.Keys > 32_768);
        foreach (var key in twins)
        {
            Assert.Equal(BufferLookup.Value, buffer.TryGet(1, key, out var value));
            Assert.True(value.SequenceEqual(key));
        }

        buffer.Release();
    }

    [Theory]
    [InlineData(0xe7037ed1a0b428dbUL)]
    [InlineData(0xa0761d6478bd642fUL)]
    [InlineData(0UL)]
    public void NoKeysCanBePreparedThatCancelTheSeed(ulong constant)
    {
        // With a hash that masks the first word by a known constant, that constant as a word makes the product 0 and
        // all these keys collide, whatever the seed.
        var hashes = new HashSet<ulong>();
        foreach (var length in (int[])[16, 24, 32, 48])
        {
            var key = new byte[length];
            for (var at = 0; at + 8 <= length; at += 8)
            {
                BinaryPrimitives.WriteUInt64LittleEndian(key.AsSpan(at), constant);
            }

            hashes.Clear();
            for (var i = 0; i < 1000; i++)
            {
                BinaryPrimitives.WriteInt32LittleEndian(key.AsSpan(8), i);
                hashes.Add(WriteBuffer.Hash(key));
            }

            Assert.Equal(1000, hashes.Count);
        }
    }

    [Fact]
    public void EveryByteAndTheLengthOfAKeyCount()
    {
        for (var length = 0; length <= 100; length++)
        {
            var key = new byte[length];
            var hash = WriteBuffer.Hash(key);
            Assert.NotEqual(hash, WriteBuffer.Hash(new byte[length + 1]));
            for (var at = 0; at < length; at++)
            {
                for (var bit = 0; bit < 8; bit++)
                {
                    key[at] ^= (byte)(1 << bit);
                    Assert.NotEqual(hash, WriteBuffer.Hash(key));
                    key[at] ^= (byte)(1 << bit);
                }
            }
        }
    }
}
