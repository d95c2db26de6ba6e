using KvNode.Raft.Core;
using KvNode.Testing;
using Xunit;

namespace KvNode.Raft.Tests.Core.Units;

public sealed class InflightsTests
{
    [Fact]
    public void TheWindowIsFullByMessages()
    {
        var window = new Inflights(messagesMax: 3, bytesMax: 0);
        for (var i = 1ul; i <= 3; i++)
        {
            Assert.False(window.IsFull);
            window.Add(i, 1000);
        }

        Assert.True(window.IsFull);
        _ = Assert.Throws<InvariantException>(() => window.Add(4, 1));
    }

    [Fact]
    public void OneMessageMayOverflowTheBytes()
    {
        var window = new Inflights(messagesMax: 10, bytesMax: 100);
        window.Add(1, 99);
        Assert.False(window.IsFull);
        window.Add(2, 500);
        Assert.True(window.IsFull);
        window.FreeThrough(1);
        Assert.True(window.IsFull);
        window.FreeThrough(2);
        Assert.False(window.IsFull);
        Assert.Equal((0, 0L), (window.Count, window.Bytes));
    }

    [Fact]
    public void AnAckFreesWhatEndsThereOrBefore()
    {
        var window = new Inflights(messagesMax: 5, bytesMax: 0);
        foreach (var last in new ulong[] { 2, 4, 6, 8 })
        {
            window.Add(last, 10);
        }

        window.FreeThrough(1);
        Assert.Equal(4, window.Count);
        window.FreeThrough(5);
        Assert.Equal((2, 20L), (window.Count, window.Bytes));
        window.FreeThrough(4);
        Assert.Equal(2, window.Count);
        window.Clear();
        Assert.Equal((0, 0L), (window.Count, window.Bytes));
    }

    [Fact]
    public void TheRingBehavesLikeAList() => Seeds.Run(nameof(TheRingBehavesLikeAList), random =>
    {
        var window = new Inflights(messagesMax: 13, bytesMax: 200);
        var model = new List<(ulong Last, long Bytes)>();
        ulong last = 0;
        for (var step = 0; step < 5000; step++)
        {
            if (random.Next(2) == 0 && !window.IsFull)
            {
                last += (ulong)random.Next(3);
                var bytes = random.Next(40);
                window.Add(last, bytes);
                model.Add((last, bytes));
            }
            else
            {
                var through = last - Math.Min(last, (ulong)random.Next(8));
                window.FreeThrough(through);
                _ = model.RemoveAll(slot => slot.Last <= through);
            }

            var total = model.Sum(static slot => slot.Bytes);
            Assert.Equal((model.Count, total), (window.Count, window.Bytes));
            Assert.Equal(model.Count >= 13 || total >= 200, window.IsFull);
        }
    });
}
