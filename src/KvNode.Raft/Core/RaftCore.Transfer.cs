namespace KvNode.Raft.Core;

/// <summary>Leadership handed to a chosen voter: it is brought up to date, then told to campaign at once.</summary>
internal sealed partial class RaftCore
{
    /// <summary>In this term another node was told to campaign.</summary>
    private bool _isTimeoutNowSent;

    /// <summary>Hands leadership over (on a follower: asks the leader to). No effect towards learners and strangers; towards
    /// itself the leader calls a pending transfer off. One that does not succeed within an election timeout is called off.</summary>
    public void TransferLeader(ulong target)
    {
        if (Role != CoreRole.Leader)
        {
            AskLeaderToTransfer(target);
            return;
        }

        if (target == NodeId)
        {
            AbortTransfer();
            return;
        }

        if (target == TransferTarget || !Membership.IsVoter(target) || FindPeer(target) is not { } peer)
        {
            return;
        }

        TransferTarget = target;
        _electionElapsed = 0;
        if (peer.Match == Log.Last.Index)
        {
            SendTimeoutNow(target);
        }
        else
        {
            Want(peer, SendWish.WhatIsNew);
        }
    }

    private void StepTransferLeader(in Message message)
    {
        if (Role == CoreRole.Leader)
        {
            TransferLeader(message.Context);
        }
        else if (Leader != message.From)
        {
            AskLeaderToTransfer(message.Context);
        }
    }

    private void AskLeaderToTransfer(ulong target)
    {
        if (Leader != 0)
        {
            SendTermless(new Message { Type = MessageType.TransferLeader, From = NodeId, To = Leader, Context = target });
        }
    }

    private void SendTimeoutNow(ulong target)
    {
        _isTimeoutNowSent = true;
        Send(new Message { Type = MessageType.TimeoutNow, To = target });
    }

    private void AbortTransfer()
    {
        if (TransferTarget != 0)
        {
            TransferTarget = 0;
            EndChange();
        }
    }
}
