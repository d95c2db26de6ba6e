using KvNode.Raft.Engine;
using Xunit;

namespace KvNode.Raft.Tests;

/// <summary>Whose turn it is: any thread's that has brought something, else the owner's, who sleeps.</summary>
public sealed class MailboxTests
{
    private const int Producers = 3;
    private const int Rounds = 5_000;

    /// <summary>The owner sleeps without a limit, so an event that everybody leaves to another one stays there for ever.</summary>
    [Fact]
    public void NoEventIsLeftToAnother()
    {
        var mailbox = new Mailbox();
        var taken = new List<Event>();
        var inside = 0;
        var most = 0;
        var seen = 0L;
        void Turn()
        {
            most = Math.Max(most, Interlocked.Increment(ref inside));
            mailbox.TakeEvents(ref taken);
            Thread.SpinWait(taken.Count * 10);
            _ = Interlocked.Add(ref seen, taken.Count);
            taken.Clear();
            _ = Interlocked.Decrement(ref inside);
        }

        var stopping = false;
        var owner = new Thread(() =>
        {
            mailbox.Open();
            while (!Volatile.Read(ref stopping))
            {
                mailbox.TakeTurns(Turn, static () => false);
                mailbox.Wait(static () => -1, static () => false);
            }
        })
        { IsBackground = true };
        owner.Start();
        using var start = new Barrier(Producers + 1);
        var producers = Enumerable.Range(0, Producers).Select(number => new Thread(() =>
        {
            for (var round = 0; round < Rounds; round++)
            {
                start.SignalAndWait();
                Thread.SpinWait(round * (number + 1) % 50);
                if (number == 0)
                {
                    mailbox.Post(EventKind.Applied, 1);
                }
                else
                {
                    mailbox.Add(new Event { Kind = EventKind.Applied, A = 1 });
                    mailbox.TakeTurns(Turn, static () => false);
                }
            }
        })
        { IsBackground = true }).ToArray();
        foreach (var producer in producers)
        {
            producer.Start();
        }

        for (var round = 1; round <= Rounds; round++)
        {
            start.SignalAndWait();
            var expected = round * Producers;
            Assert.True(
                SpinWait.SpinUntil(() => Interlocked.Read(ref seen) == expected, TimeSpan.FromSeconds(10)),
                $"round {round}: {Interlocked.Read(ref seen)} of {expected} events were dealt with");
        }

        Assert.Equal(1, most);
        Volatile.Write(ref stopping, true);
        mailbox.Post(EventKind.Applied, 1);
        Assert.True(owner.Join(TimeSpan.FromSeconds(10)));
    }

    [Fact]
    public void TheLastTurnIsTheOwnersAloneUnlessTheOneBeforeItFailed()
    {
        var mailbox = new Mailbox();
        var turns = 0;
        mailbox.TakeTurns(() => turns++, static () => false);
        Assert.Equal(0, turns);
        mailbox.Open();
        mailbox.TakeTurns(() => turns++, static () => false);
        Assert.Equal(1, turns);
        Assert.True(mailbox.TryTakeLastTurn(static () => false));
        mailbox.TakeTurns(() => turns++, static () => false);
        Assert.Equal(1, turns);

        var failed = new Mailbox();
        failed.Open();
        Assert.Throws<InvalidOperationException>(() => failed.TakeTurns(() => throw new InvalidOperationException(), static () => false));
        failed.TakeTurns(() => turns++, static () => false);
        Assert.Equal(1, turns);
        Assert.False(failed.TryTakeLastTurn(static () => true));
    }
}
