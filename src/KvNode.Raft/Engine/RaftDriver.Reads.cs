using KvNode.Raft.Core;
using State = KvNode.Raft.Engine.OutstandingBatches.State;

namespace KvNode.Raft.Engine;

// Linearizable reads: batches that hold only reads wait for an index that a leader has confirmed after they came.
internal sealed partial class RaftDriver
{
    private int _readRounds;
    private int _marked;
    private long _readsSince;

    // Until the next tick, or until something changes about the leader.
    private bool _readsPause;

    /// <summary>One round for all that wait.</summary>
    private void StartReads()
    {
        if (!_readsWaiting || _readsPause || _core.Leader == 0 || _readRounds >= _options.ReadRoundsMax)
        {
            return;
        }

        _readsWaiting = false;
        _marked = 0;
        var context = ++_readContext;
        _parts.Outstanding.Visit((this, context), static (at, ref item) =>
        {
            if (item.IsRead && item.State == State.Waiting)
            {
                item.State = State.Sent;
                item.Number = at.context;
                at.Item1._marked++;
            }

            return true;
        });
        if (_marked == 0)
        {
            return;
        }

        _readRounds++;
        _readsSince = _now;
        if (!_core.ReadIndex(context))
        {
            OnReadState(new ReadState(context, 0, Ok: false));
        }
    }

    private void OnReadState(in ReadState read)
    {
        _readRounds = Math.Max(0, _readRounds - 1);
        // A node that does not lead any more refuses at once, and a learner goes on taking it for the leader for as long as an
        // election may take: asked again at once, the two would do nothing else.
        _readsPause |= !read.Ok;
        _parts.Outstanding.Visit((this, read), static (at, ref item) =>
        {
            if (item.IsRead && item.State == State.Sent && item.Number == at.read.Context)
            {
                item.State = at.read.Ok ? State.Confirmed : State.Waiting;
                item.Number = at.read.Ok ? at.read.Index : 0;
                at.Item1._readsWaiting |= !at.read.Ok;
            }

            return true;
        });
        if (read.Ok)
        {
            AnswerSoon();
        }
    }

    /// <summary>A question or its answer may have been lost on the way: ask again.</summary>
    private void RetryReads()
    {
        _readsPause = false;
        if (_readRounds > 0 && _now - _readsSince > _options.ElectionTimeout.TotalNanoseconds / 2)
        {
            _readRounds = 0;
            _parts.Outstanding.Visit(this, static (driver, ref item) =>
            {
                if (item.IsRead && item.State == State.Sent)
                {
                    item.State = State.Waiting;
                    driver._readsWaiting = true;
                }

                return true;
            });
        }
    }
}
